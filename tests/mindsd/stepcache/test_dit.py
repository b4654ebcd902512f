"""Every image transformer that diffusers has comes apart at the seams, or is refused by name."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from mindsd.batching.call import Batchable, Call, read
from mindsd.batching.stack import take
from mindsd.errors import ModelError, RequestError
from mindsd.stepcache.denoiser import split
from mindsd.stepcache.dit import KNOWN_NOT, DiTSplit
from mindsd.stepcache.split import Split, distance
from tests.zoo import pixel_transformers, token_transformers, unets, video_transformers
from tests.zoo.made_up import Interleaved, Joined, Pairs, Transposed, Unlisted, Written, given
from tests.zoo.transformer import ROWS, SIDE, TOKENS, WIDTH, Model

FILES = (token_transformers, pixel_transformers, video_transformers, unets)
MODELS = [model for file in FILES for model in file.MODELS]
ROUNDING = 0.01  # of what the first use of a split allows
# Parts of other models; and the one that takes its images as a list (test_zimage.py).
OTHERS = {"Transformer2DModel", "DreamLiteTransformer2DModel", "ZImageTransformer2DModel"}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def call_of(module: Any, asked: dict[str, Any]) -> Call:
    """As a pipeline's call reaches a cache: after the split was made."""
    call = read(Batchable(module.forward, "denoise"), (), asked)
    assert call is not None
    return call


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_it_comes_apart_and_together_again(model: Model):
    module: Any = model.build()
    plain = module(**model.asked())[0]
    own = split(module)
    call = call_of(module, model.asked())
    result, deep = own.whole(call.run)
    assert torch.equal(result[0], plain)
    assert len(deep) == ROWS and deep.dtype == plain.dtype
    assert distance(own.shallow(call.run, deep)[0], plain) < ROUNDING
    nothing = own.shallow(call.run, torch.zeros_like(deep))[0]
    assert distance(nothing, plain) > 10  # it matters what is put in
    feature = own.probe(call.run)
    assert len(feature) == ROWS and feature.isfinite().all()
    own.remove()
    assert torch.equal(module(**model.asked())[0], plain)
    assert all("forward" not in vars(part) for part in module.modules())


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_a_row_keeps_its_own_value(model: Model):
    module: Any = model.build()
    own = split(module)
    call = call_of(module, model.asked())
    _, deep = own.whole(call.run)
    second = take(call, [1])
    alone = second.run()[0]
    assert distance(own.shallow(second.run, deep[1:])[0], alone) < ROUNDING
    assert distance(own.shallow(second.run, deep[:1])[0], alone) > 1


HALVES = [model for model in MODELS if model.kind.startswith(("Flux", "SD3", "Chroma", "UNet"))]


@pytest.mark.parametrize("model", HALVES, ids=str)
def test_half_precision_keeps_half_precision(model: Model):
    module: Any = model.build().to(torch.bfloat16)
    asked = tree_map_only(
        torch.Tensor,
        lambda own: own.to(torch.bfloat16) if own.is_floating_point() else own,
        model.asked(),
    )
    own = split(module)
    result, deep = own.whole(call_of(module, asked).run)
    assert deep.dtype == torch.bfloat16 and result[0].isfinite().all()


def test_none_is_forgotten():
    every = {name for name in dir(diffusers) if name.endswith("Transformer2DModel")}
    tried = {model.kind for model in MODELS}
    assert every - tried - set(KNOWN_NOT) - OTHERS == set()
    assert all(hasattr(diffusers, name) for name in KNOWN_NOT)


@pytest.mark.parametrize("name", KNOWN_NOT)
def test_known_not_to_come_apart(name: str):
    kind = getattr(diffusers, name)
    with pytest.raises(ModelError, match=name):
        split(kind.__new__(kind))


def test_a_model_without_such_lists():
    with pytest.raises(ModelError, match="Unlisted has no blocks to cache in any of"):
        split(Unlisted())


REFUSED = {
    "runs other layers in between": (Interleaved, "not all that lies between"),
    "has its tokens first": (Transposed, rf"take \({TOKENS}, {ROWS}, {WIDTH}\) tokens for {ROWS}"),
    "gives two alike": (Pairs, "which are its image tokens cannot be told"),
}


@pytest.mark.parametrize(("kind", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_at_its_first_step(kind: type[nn.Module], words: str):
    module = kind()
    own = split(module)
    run = call_of(module, given()).run
    with pytest.raises(RequestError, match=f"no step cache .*{words}.*; skip steps instead"):
        own.whole(run)
    own.remove()
    assert torch.equal(run(), module(**given()))


@pytest.mark.parametrize("kind", [Joined, Written], ids=["joins its text", "writes into its input"])
def test_made_up_models_that_come_apart(kind: type[nn.Module]):
    module = kind()
    plain = module(**given())
    own = split(module)
    call = call_of(module, given())
    result, deep = own.whole(call.run)
    assert torch.equal(result, plain)
    assert distance(own.shallow(call.run, deep), plain) < ROUNDING


def with_residuals(own: Split, module: nn.Module, scale: float, deep: Any = None) -> Any:
    """Of a whole pass, or of a shallow one with this deep value."""
    residuals = [torch.full((ROWS, TOKENS, WIDTH), scale)] * 3
    call = call_of(module, given() | {"residuals": residuals})
    return own.whole(call.run) if deep is None else own.shallow(call.run, deep)


def test_what_is_added_between_blocks_is_always_fresh():
    module = Written()
    own = split(module)
    _, deep = with_residuals(own, module, 1.0)
    hidden = with_residuals(own, module, 5.0, deep) - with_residuals(own, module, 1.0, deep)
    # Its last layer is linear: three residuals, each 4 more.
    expected = module.head(torch.full((WIDTH,), 3 * 4.0)) - module.head(torch.zeros(WIDTH))
    assert torch.allclose(hidden, expected.expand_as(hidden), atol=1e-4)


def test_a_value_of_another_size_has_no_place():
    module = Written()
    own = split(module)
    call = call_of(module, given())
    _, deep = own.whole(call.run)
    with pytest.raises(RequestError, match=f"{TOKENS} of {TOKENS + 1} kept tokens have a place"):
        own.shallow(call.run, torch.cat([deep, deep[:, :1]], 1))
    with pytest.raises(RequestError, match="tokens came where others had been kept"):
        own.shallow(call.run, deep[:, : SIDE + 1])


class Blind(nn.Module):
    def forward(self) -> None: ...


def test_a_block_that_takes_nothing_leaves_no_wrap_behind():
    module = nn.Module()
    module.blocks = nn.ModuleList([nn.Linear(4, 4), Blind()])
    with pytest.raises(ModelError, match="Blind takes no image tokens"):
        DiTSplit(module)
    assert all("forward" not in vars(part) for part in module.modules())
