"""The registry: order, reasons, and backends that do not compute what they claim."""

import warnings

import pytest
import torch

from mindsd.attention.contract import Call
from mindsd.attention.cpu import Reference
from mindsd.attention.registry import Registry, default_registry
from mindsd.attention.sdpa import Sdpa
from mindsd.errors import AttentionRefused


class Odd:
    """A backend that refuses, raises or answers as it is told, and counts."""

    def __init__(self, name="odd", refusal=None, answer=None):
        self.name = name
        self.refusal = refusal
        self.answer = answer or Sdpa().run
        self.runs = 0

    def refuses(self, call):
        return self.refusal

    def run(self, call):
        self.runs += 1
        return self.answer(call)


def square(dtype=torch.float32, **options):
    q = torch.randn(1, 2, 5, 8, dtype=dtype)
    return Call(q, q, q, **options)


def drops_the_mask(call):
    return Sdpa().run(Call(call.q, call.k, call.v, scale=call.scale))


def breaks(call):
    raise OSError("no kernel for this chip")


def gives_nan(call):
    return torch.full_like(Sdpa().run(call), float("nan"))


def widens(call):
    return Sdpa().run(call).double()


def turns(call):
    return Sdpa().run(call).transpose(1, 2)


def test_the_first_that_takes_it():
    registry = Registry([Odd("shy", refusal="not today"), Odd("able"), Reference()])
    assert registry.choose(square()).name == "able"
    assert registry.explain(square()) == [
        ("shy", "not today"),
        ("able", None),
        ("reference", None),
    ]


@pytest.mark.parametrize(
    "answer, words",
    [
        (drops_the_mask, "bool mask: off by"),
        (breaks, "plain: OSError: no kernel for this chip"),
        (gives_nan, "plain: off by nan"),
        (widens, "plain: gave torch.float64"),
        (turns, "plain: gave torch.float32 .*, not"),
    ],
)
def test_a_failed_self_test_warns_once(answer, words):
    registry = Registry([Odd("liar", answer=answer), Reference()])
    with pytest.warns(RuntimeWarning, match=f"liar failed its self-test .*{words}") as caught:
        assert registry.choose(square()).name == "reference"
        registry.run(square())
    assert len(caught) == 1
    reason = dict(registry.explain(square()))["liar"]
    assert reason is not None and "failed its self-test" in reason


def test_tested_once_for_each_dtype():
    counted = Odd("counted")
    registry = Registry([counted])
    registry.choose(square())
    once = counted.runs
    assert once > 5
    registry.choose(square())
    assert counted.runs == once
    registry.choose(square(torch.bfloat16))
    assert counted.runs == 2 * once


def test_torch_is_outdone_where_another_backend_takes_plain_attention():
    cpu = torch.device("cpu")
    assert not default_registry().outdoes_torch(cpu, torch.float32)
    assert Registry([Reference(), Sdpa()]).outdoes_torch(cpu, torch.float32)


def test_a_backend_is_not_tested_on_what_it_refuses():
    never = Odd("never", refusal="no", answer=breaks)
    Registry([never, Reference()]).run(square())
    assert never.runs == 0


def test_the_self_test_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    call = square()
    torch.set_rng_state(before)
    Registry().run(call)
    assert torch.equal(torch.get_rng_state(), before)


def test_all_refused():
    registry = Registry([Odd("one", refusal="too wide"), Odd("two", refusal="too long")])
    with pytest.raises(AttentionRefused) as caught:
        registry.run(square())
    assert "one: too wide; two: too long" in str(caught.value)
    assert "torch.float32 q (1, 2, 5, 8) on cpu" in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_what_this_machine_has_passes_its_self_test(dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reasons = dict(default_registry().explain(square(dtype)))
    assert list(reasons) == ["npu", "amx", "xformers", "sdpa", "reference"]
    assert reasons["sdpa"] is None and reasons["reference"] is None
    assert reasons["npu"] and reasons["amx"] and reasons["xformers"]
    assert default_registry() is default_registry()
