"""The builder of C files: built once, kept, refused by name where it cannot be."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mindsd import native
from mindsd.native import Source, load, why_not

CACHES = (native.load, native._compiler, native._version)
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, native.COMPILERS)), reason="there is no C compiler here"
)


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MINDSD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(native.OFF, raising=False)
    for own in CACHES:
        own.cache_clear()
    yield
    for own in CACHES:
        own.cache_clear()


def source(tmp_path: Path, text: str, **options: tuple[str, ...]) -> Source:
    file = tmp_path / "kernel.c"
    file.write_text(text)
    return Source(file, **options)


TWICE = "void twice(float *x, long n) { for (long i = 0; i < n; i++) x[i] *= 2; }"


@needs_compiler
def test_a_file_is_built_and_called(tmp_path: Path) -> None:
    library = load(source(tmp_path, TWICE))
    assert isinstance(library, ctypes.CDLL)
    x = torch.arange(5, dtype=torch.float32)
    library.twice(ctypes.c_void_p(native.address(x)), ctypes.c_long(5))
    assert x.tolist() == [0, 2, 4, 6, 8]


@needs_compiler
def test_it_is_built_once_and_anew_when_its_text_or_a_header_changes(tmp_path: Path) -> None:
    own = source(tmp_path, TWICE)
    load(own)
    (first,) = native.cache_folder().glob("*.so")
    made = first.stat().st_mtime_ns
    load.cache_clear()
    load(own)
    assert first.stat().st_mtime_ns == made
    (tmp_path / "shape.h").write_text("enum { ROWS = 2 };")
    load.cache_clear()
    load(own)
    assert len(list(native.cache_folder().glob("*.so"))) == 2


@needs_compiler
def test_nothing_half_built_is_left(tmp_path: Path) -> None:
    said = load(source(tmp_path, "int broken( {"))
    assert isinstance(said, str) and said.startswith("the compiler failed: ") and "error" in said
    assert list(native.cache_folder().iterdir()) == []


@needs_compiler
def test_what_others_may_write_is_not_loaded(tmp_path: Path) -> None:
    folder = native.cache_folder()
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    said = load(source(tmp_path, TWICE))
    assert isinstance(said, str) and "others may write" in said


@needs_compiler
def test_a_process_of_another_umask_loads_it(tmp_path: Path) -> None:
    own, before = source(tmp_path, TWICE), os.umask(0o002)
    try:
        load(own)
    finally:
        os.umask(before)
    load.cache_clear()
    assert isinstance(load(own), ctypes.CDLL)


@needs_compiler
def test_a_compiler_may_be_of_several_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(filter(shutil.which, native.COMPILERS))
    monkeypatch.setenv("CC", f"{name} -O1")
    assert isinstance(load(source(tmp_path, TWICE)), ctypes.CDLL)


@needs_compiler
def test_a_user_without_a_home_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("MINDSD_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    said = load(source(tmp_path, TWICE))
    assert said == "it could not be built: Could not determine home directory."


def test_a_missing_instruction_is_named(tmp_path: Path) -> None:
    own = source(tmp_path, TWICE, needs=("no_such_instruction",))
    assert why_not(own) == load(own) == "this processor has no no_such_instruction"


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    said = load(source(tmp_path, TWICE))
    assert isinstance(said, str) and said.startswith("there is no C compiler here")


def test_it_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.OFF, "off")
    assert why_not(source(tmp_path, TWICE)) == "native kernels are off (MINDSD_NATIVE=off)"


def test_a_kernel_uses_as_many_threads_as_torch() -> None:
    assert native.threads() == torch.get_num_threads()
    assert native.address(None) is None
    assert os.environ["MINDSD_CACHE"]
