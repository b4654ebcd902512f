"""No version that has an advisory; audits behind some indexes find nothing and say all is well."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
FLOORS = {
    "torch": "2.11",
    "diffusers": "0.42",
    "transformers": "5.23",
    "fastapi": "0.165",
    "starlette": "1.10",
    "uvicorn": "0.54",
    "python-multipart": "0.0.34",
    "gradio": "6.31",
}


def named() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(line) for lines in (PROJECT["dependencies"], *extras) for line in lines]


@pytest.mark.parametrize("name", FLOORS)
def test_the_project_asks_for_it_wherever_it_is_named(name: str):
    asked = [one.specifier for one in named() if one.name == name]
    assert asked, name
    for specifier in asked:
        least = [Version(part.version) for part in specifier if part.operator == ">="]
        assert least and min(least) >= Version(FLOORS[name]), f"{name}{specifier}"


@pytest.mark.parametrize("name", FLOORS)
def test_it_is_installed(name: str):
    assert Version(version(name)) >= Version(FLOORS[name])


def test_none_comes_from_another_index_or_an_address():
    """CVE-2026-54232: a name of one's own on an index of others."""
    assert [one.name for one in named() if one.url is not None] == []
