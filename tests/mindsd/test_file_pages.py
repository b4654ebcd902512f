"""Pages of a file are given back, and never a byte that was written is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mindsd import file_pages
from mindsd.file_pages import MAPS, SMAPS, Mapped, give_back, mapped_files
from mindsd.prepack import MANY_ROWS, Prepacked

SIZE = 8 * 2**20
linux = pytest.mark.skipif(not SMAPS.exists(), reason="only Linux tells its mappings")


@pytest.fixture
def weight(tmp_path: Path) -> torch.Tensor:
    """Numbers that lie in a file's mapping, private as safetensors has it, and were read."""
    file = tmp_path / "weights"
    file.write_bytes(torch.arange(SIZE // 8).numpy().tobytes())
    found = torch.from_file(str(file), shared=False, size=SIZE // 8, dtype=torch.int64)
    assert found.sum() == sum(range(SIZE // 8))
    return found


def resident(tensor: torch.Tensor) -> int:
    """Bytes in memory of the mapping that a tensor begins in."""
    found, here = 0, False
    for fields in map(str.split, SMAPS.read_text().splitlines()):
        if not fields[0].endswith(":"):
            first, stop = (int(place, 16) for place in fields[0].split("-"))
            here = first <= tensor.data_ptr() < stop
        elif here and fields[0] == "Rss:":
            found += int(fields[1]) * 1024
    return found


def shows(mapped: Mapped, tensor: torch.Tensor) -> bool:
    return mapped.first <= tensor.data_ptr() < mapped.stop


def place(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.nbytes


@linux
def test_a_mapped_tensor_is_known(weight: torch.Tensor) -> None:
    other = torch.zeros(SIZE)
    assert [own.clean for own in mapped_files(SMAPS) if shows(own, weight)] == [True]
    assert not any(shows(own, other) for own in mapped_files(MAPS))
    assert any(shows(own, weight) for own in mapped_files(MAPS))
    weight[5] = 7
    assert [own.clean for own in mapped_files(SMAPS) if shows(own, weight)] == [False]


@linux
def test_what_is_given_back_is_read_again(weight: torch.Tensor) -> None:
    before = weight.clone()
    assert resident(weight) >= SIZE
    give_back([place(weight)])
    assert resident(weight) == 0
    assert torch.equal(weight, before)


@linux
def test_a_range_need_not_begin_with_a_page(weight: torch.Tensor) -> None:
    before = weight.clone()
    give_back([(weight.data_ptr() + 1, SIZE - 2), (weight.data_ptr() + 5, 100)])
    assert resident(weight) <= 2 * file_pages.mmap.PAGESIZE
    assert torch.equal(weight, before)


@linux
def test_what_was_written_stays(weight: torch.Tensor) -> None:
    weight[5] = 7
    before = weight.clone()
    there = resident(weight)
    give_back([place(weight)])
    assert resident(weight) == there > 0 and torch.equal(weight, before)


def test_memory_of_no_file_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_pages, "SMAPS", None)  # nothing slow is read for it
    own = torch.arange(SIZE // 8)
    give_back([place(own)])
    assert torch.equal(own, torch.arange(SIZE // 8))


def test_where_the_system_does_not_tell(
    weight: torch.Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(file_pages, "MAPS", tmp_path / "none")
    assert mapped_files(tmp_path / "none") == []
    give_back([place(weight)])
    assert weight[-1] == SIZE // 8 - 1


@linux
@pytest.mark.parametrize("release", [False, True])
def test_prepacked_weights_leave_their_file(tmp_path: Path, release: bool) -> None:
    torch.manual_seed(0)
    model = nn.Linear(1024, 1024, bias=False)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    held = load_file(tmp_path / "model.safetensors")
    model.load_state_dict(held, assign=True)
    mapped = held["weight"].detach()
    if not any(shows(own, mapped) for own in mapped_files(SMAPS)):
        pytest.skip("this safetensors reads its files instead")
    with torch.inference_mode():
        want = model(torch.ones(2, 1024))
        packed = Prepacked(model, (MANY_ROWS,), release)
        assert resident(mapped) < mapped.nbytes / 4
        assert torch.allclose(model(torch.ones(2, 1024)), want, atol=1e-4)
        packed.remove()
        assert torch.equal(model(torch.ones(2, 1024)), want)
