"""Compiled blocks: the same numbers, one form for all rows, and the model as it was afterwards.

Most tests let torch trace and run its own operators; one lets it write code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import nn

from mindsd.attention import compiled_kind
from mindsd.attention.compiled import blocks, compile_blocks
from mindsd.batching.rows import adapted
from mindsd.errors import RequestError
from mindsd.stepcache.denoiser import split
from tests.attention import models

Made = Callable[[], tuple[Any, tuple[Any, ...], dict[str, Any]]]


class Counting:
    """A compiler that compiles nothing, and counts what it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


def flat(result: Any) -> torch.Tensor:
    return torch.cat([own.flatten() for own in result]) if isinstance(result, list) else result


def block() -> Any:
    return BasicTransformerBlock(8, 2, 4, cross_attention_dim=8)


def bare(model: nn.Module) -> bool:
    return not any("forward" in vars(own) for own in model.modules())


@pytest.mark.parametrize("make", [models.flux, models.z_image])
@torch.inference_mode()
def test_every_kind_of_model_computes_what_it_computes(make: Made):
    torch.manual_seed(0)
    model, args, kwargs = make()
    wanted = flat(model.eval()(*args, **kwargs, return_dict=False)[0])
    with compile_blocks(model, "eager") as compiled:
        for _ in range(2):  # tried, then trusted
            found = flat(model(*args, **kwargs, return_dict=False)[0])
            assert torch.allclose(found, wanted, atol=1e-6)
        assert compiled.served and not compiled.left and not compiled.wrong
    assert bare(model)
    assert torch.equal(flat(model(*args, **kwargs, return_dict=False)[0]), wanted)


@torch.inference_mode()
def test_code_that_was_written_gives_the_numbers_of_the_block():
    """One block of a UNet, compiled in earnest."""
    torch.manual_seed(0)
    model: Any = nn.ModuleDict({"only": block()})
    model.eval()
    with compile_blocks(model) as compiled:
        for rows in (2, 3, 1):
            x, text = torch.randn(rows, 6, 8), torch.randn(rows, 3, 8)
            model.only(x, encoder_hidden_states=text)
            found = model.only(x, encoder_hidden_states=text)
            wanted = type(model.only).forward(model.only, x, encoder_hidden_states=text)
            assert torch.allclose(found, wanted, atol=1e-5)
        assert list(compiled.served) == ["only"] and not compiled.wrong


@torch.inference_mode()
def test_any_number_of_rows_is_served_by_two_forms():
    model, _, given = models.flux()
    counting = Counting()
    fixed = {name: own for name, own in given.items() if "ids" in name}
    with compile_blocks(model.eval(), counting) as compiled:
        for rows in (2, 3, 1, 16, 5, 1, 2):
            drawn = {k: torch.randn(rows, *v.shape[1:]) for k, v in given.items() if k not in fixed}
            model(**drawn, **fixed, return_dict=False)
        assert not compiled.wrong
    assert counting.graphs == 2 * 2  # two structures of block: for one row, and for more


@torch.inference_mode()
def test_equal_blocks_are_compiled_once_and_other_sizes_do_not_pile_up():
    model: Any = nn.ModuleList(block() for _ in range(3))
    counting = Counting()
    with compile_blocks(model.eval(), counting) as compiled:
        for tokens in (8, 16, 24, 32, 40):
            for rows in (2, 3, 4):
                x = torch.randn(rows, tokens, 8)
                for own in model:
                    x = own(x, encoder_hidden_states=torch.randn(rows, 3, 8))
        assert not compiled.wrong
        assert len(compiled.served) == 3 and len(set(compiled.served.values())) == 1
    assert 1 <= counting.graphs <= 2  # of one size, and of all others


@torch.inference_mode()
def test_a_step_cache_goes_on_round_compiled_blocks():
    torch.manual_seed(0)
    model, args, kwargs = models.sd()
    model.eval()

    def run() -> Any:
        return model(*args, **kwargs, return_dict=False)[0]

    cut = split(model)
    wanted, deep = cut.whole(run)
    forecast = cut.shallow(run, deep)
    cut.remove()
    with compile_blocks(model, "eager") as compiled:
        cut = split(model)
        for _ in range(2):
            found, its = cut.whole(run)
            assert torch.allclose(found, wanted, atol=1e-6)
            assert torch.allclose(its, deep, atol=1e-6)
            assert torch.allclose(cut.shallow(run, its), forecast, atol=1e-6)
        assert not compiled.wrong
        cut.remove()
    assert bare(model)


def test_rows_with_adapters_or_gradients_run_the_blocks_own_code():
    model, args, kwargs = models.pixart()
    counting = Counting()
    with compile_blocks(model.eval(), counting):
        model(*args, **kwargs)
        with torch.no_grad(), adapted((("ink", 0.5),)):
            model(*args, **kwargs)
        assert counting.graphs == 0
        with torch.no_grad():
            model(*args, **kwargs)
        assert counting.graphs > 0


@torch.inference_mode()
def test_a_model_that_was_changed_runs_its_own_code():
    model, args, kwargs = models.pixart()
    with compile_blocks(model.eval(), "eager") as compiled:
        before = model(*args, **kwargs, return_dict=False)[0]
        first = model.get_submodule(next(iter(compiled.served)))
        first.norm2 = nn.Identity()  # as peft exchanges layers
        found = model(*args, **kwargs, return_dict=False)[0]
    assert torch.equal(found, model(*args, **kwargs, return_dict=False)[0])
    assert not torch.allclose(found, before)


@torch.inference_mode()
def test_what_does_not_compile_or_is_wrong_runs_as_it_did():
    def failing(graph: Any, inputs: Any) -> Any:
        raise OSError("no room for code")

    def wrong(graph: Any, inputs: Any) -> Any:
        return lambda *given: [own * 1.5 for own in graph.forward(*given)]

    model, args, kwargs = models.pixart()
    wanted = model.eval()(*args, **kwargs, return_dict=False)[0]
    for backend, why in ((failing, "no room for code"), (wrong, "is off by")):
        with compile_blocks(model, backend) as compiled:
            with pytest.warns(RuntimeWarning, match=f"BasicTransformerBlock is not.*{why}"):
                found = model(*args, **kwargs, return_dict=False)[0]
            assert torch.equal(found, wanted) and set(compiled.wrong) == set(compiled.served)
            assert torch.equal(model(*args, **kwargs, return_dict=False)[0], wanted)


def test_errors_of_a_call_and_memory_that_ran_out_are_the_callers():
    class Full(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + 1

    model: Any = nn.Module()
    model.blocks = nn.ModuleList([Full()])
    model.weight = nn.Parameter(torch.zeros(1))

    def full(graph: Any, inputs: Any) -> Any:
        def run(*given: Any) -> Any:
            raise torch.OutOfMemoryError("none left")

        return run

    with torch.inference_mode(), compile_blocks(model, full) as compiled:
        with pytest.raises(torch.OutOfMemoryError):
            model.blocks[0](torch.ones(2))
        with pytest.raises(TypeError):
            model.blocks[0]("text")
        assert not compiled.wrong


def test_without_a_compiler_one_warning_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    model, _, _ = models.pixart()
    with pytest.warns(RuntimeWarning, match="is not compiled: there is no C.. compiler 'no-such"):
        compiled = compile_blocks(model)
    assert not compiled.served and len(compiled.left) == 2 and bare(model)
    monkeypatch.setattr(compiled_kind, "find_spec", lambda name: None)
    assert compiled_kind.why_no_compiler("cuda") == "triton is not installed"


def test_a_model_without_blocks_is_refused():
    with pytest.raises(RequestError, match="Linear has no blocks that are known to repeat"):
        compile_blocks(nn.Linear(2, 2))


def test_blocks_inside_of_blocks_are_a_part_of_them():
    model, _, _ = models.sdxl()
    names = [name for name, _ in blocks(model)]
    assert "mid_block.attentions.0.transformer_blocks.0" in names
    assert not any(one != other and other.startswith(f"{one}.") for one in names for other in names)


def test_several_threads_may_run_it():
    model, args, kwargs = models.pixart()
    model.eval()
    found: list[torch.Tensor] = []

    def run() -> None:
        with torch.inference_mode():
            for _ in range(2):
                found.append(model(*args, **kwargs, return_dict=False)[0])

    with torch.inference_mode():
        wanted = model(*args, **kwargs, return_dict=False)[0]
    with compile_blocks(model, "eager") as compiled:
        threads = [threading.Thread(target=run) for _ in range(2)]
        for own in threads:
            own.start()
        for own in threads:
            own.join()
        assert not compiled.wrong
    assert len(found) == 4 and all(torch.allclose(own, wanted, atol=1e-6) for own in found)


@torch.inference_mode()
def test_what_is_no_number_proves_nothing():
    def wrong(graph: Any, inputs: Any) -> Any:
        return lambda *given: [own * 1.5 for own in graph.forward(*given)]

    model, args, kwargs = models.pixart()
    model.eval()
    with compile_blocks(model, wrong) as compiled:
        model(args[0] * torch.nan, *args[1:], **kwargs)
        assert not compiled.wrong
        with pytest.warns(RuntimeWarning, match="is off by"):
            model(*args, **kwargs)
        assert compiled.wrong


def test_a_model_none_of_whose_blocks_can_be_compiled_is_refused():
    model, _, _ = models.pixart()
    for _, own in blocks(model):
        own.compile()
    with pytest.raises(RequestError, match="no block of PixArt.* can be compiled: is run by some"):
        compile_blocks(model)
    assert bare(model)


@torch.inference_mode()
def test_rows_that_merge_tokens_run_the_blocks_own_code(monkeypatch: pytest.MonkeyPatch):
    model, args, kwargs = models.pixart()
    counting = Counting()
    with compile_blocks(model.eval(), counting):
        tag = type("Tag", (), {"group": "merged"})()
        monkeypatch.setattr("mindsd.attention.compiled.present_tag", lambda: tag)
        model(*args, **kwargs)
        assert counting.graphs == 0
