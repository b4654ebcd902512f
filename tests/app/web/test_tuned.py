"""The operator's profiles on the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mindsd.app.web.tuned import read_profiles, table
from mindsd.pipelines.profile import Profile
from mindsd.pipelines.shelf import Shelf


def test_profiles_are_found_by_name_and_others_left_out(tmp_path: Path, profile: Profile):
    profile.write(tmp_path / "b.profile.json")
    replace(profile, model="<b>").write(tmp_path / "a.json")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "folder.json").mkdir()
    found = read_profiles(Shelf(profiles=tmp_path).profiles())
    assert [own.id for own in found] == ["a", "b"] and found[1].saved == pytest.approx(0.75)
    told = table(found)
    assert "4.00x" in told and "75%" in told and "0.9810" in told and "&lt;b&gt;" in told


def test_no_profile_no_table():
    assert read_profiles({}) == [] and table([]) == ""
