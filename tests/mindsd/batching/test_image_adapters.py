"""LoRAs of image models in one forward: each row is as diffusers draws it with its own, alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache as once
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mindsd.batching.image_adapters import ImageAdapters
from mindsd.batching.rows import adapted as computed_with
from mindsd.batching.rows import part_of, present_forward, running
from mindsd.engine import Engine
from mindsd.errors import Cancelled, ModelError, RequestError
from mindsd.request import Failed, Need, Request
from mindsd.weights.lora import LoraLayer
from tests.zoo.cases import CASES
from tests.zoo.drawing import Asked, body, distance, engine_for, held, plain
from tests.zoo.image_lora import adapted, save_lora

PARTS = {
    "sd": ["unet", "text_encoder"],
    "sdxl": ["unet", "text_encoder", "text_encoder_2"],
    "sd3": ["transformer", "text_encoder", "text_encoder_2"],
    "flux": ["transformer", "text_encoder"],
    "qwen-image": ["transformer"],
    "z-image": ["transformer"],
}
Wished = list[tuple[str, float]]
WISHES: list[Wished] = [[("ink", 0.8)], [("ink", -0.3), ("oil", 1.0)], []]


@once
def files(family: str) -> dict[str, Path]:
    folder, pipe = Path(mkdtemp()), CASES[family].build()
    return {
        name: save_lora(pipe, folder / name, seed, PARTS[family], lora_alpha=alpha, told=True)
        for seed, (name, alpha) in enumerate({"ink": 4, "oil": 6}.items())
    }


@once
def references(family: str) -> list[Tensor]:
    """What diffusers draws with its own LoRAs, a fresh pipeline for each request."""
    case = CASES[family]
    found = []
    for asked, wished in zip(case.asked(), WISHES, strict=True):
        chosen = [(files(family)[name], weight) for name, weight in wished]
        found.append(plain(adapted(case.build, chosen) if chosen else case.build(), asked))
    return found


class Drawing:
    """A pipeline open to an engine, with both LoRAs."""

    def __init__(self, family: str, engine: Engine, pipe: Any):
        self.engine, self.pipe = engine, pipe
        self.adapters = ImageAdapters(pipe)
        for name, path in files(family).items():
            self.adapters.add(name, path)

    def ask(self, asked: Asked, wished: Sequence[tuple[str, float]]) -> Request:
        drawn = body(self.pipe, asked)

        def submit(adapters: Any) -> Request:
            def run(request: Request) -> Any:
                with computed_with(adapters):
                    return drawn(request)

            return self.engine.submit(run)

        return self.adapters.start(wished, submit)


@pytest.fixture
def drawing(request: pytest.FixtureRequest) -> Iterator[Drawing]:
    pipe: Any = CASES[request.param].build()
    with engine_for(pipe) as engine:
        own = Drawing(request.param, engine, pipe)
        yield own
        own.adapters.close()


def each(*families: str) -> Any:
    return pytest.mark.parametrize(
        ("drawing", "family"), [(f, f) for f in families], indirect=["drawing"], ids=families
    )


@each("sd", "sdxl", "sd3", "flux")
def test_rows_of_one_forward_have_their_own(drawing: Drawing, family: str):
    asked, wanted = CASES[family].asked(), references(family)
    alone = [drawing.ask(*one).result(60) for one in zip(asked, WISHES, strict=True)]
    before = drawing.engine.counts.forwards["denoise"]
    with held(drawing.engine):
        requests = [drawing.ask(*one) for one in zip(asked, WISHES, strict=True)]
    together = [request.result(60) for request in requests]
    for images in (alone, together):
        assert max(map(distance, images, wanted)) < 1e-5
    assert torch.equal(alone[2], wanted[2])  # without a LoRA nothing at all is done
    assert drawing.engine.counts.forwards["denoise"] - before == max(
        one["num_inference_steps"] for one in asked
    )
    plainly = plain(CASES[family].build(), asked[0])
    assert distance(wanted[0], plainly) > 0.05 and distance(wanted[1], wanted[0]) > 0.05


@each("qwen-image", "z-image")
def test_other_transformers(drawing: Drawing, family: str):
    """Their loaders are found by the pipeline's class, as any other's."""
    asked, wanted = CASES[family].asked(), references(family)
    with held(drawing.engine):
        requests = [drawing.ask(*one) for one in zip(asked, WISHES, strict=True)]
    assert max(distance(r.result(60), own) for r, own in zip(requests, wanted, strict=True)) < 1e-5


@each("sd")
def test_one_lora_in_several_weights(drawing: Drawing, family: str):
    asked = CASES[family].asked()[1]
    weights = (1.0, 0.5, 0.0, -1.0)
    alone = [drawing.ask(asked, [("ink", weight)]).result(60) for weight in weights]
    with held(drawing.engine):
        requests = [drawing.ask(asked, [("ink", weight)]) for weight in weights]
    for request, own in zip(requests, alone, strict=True):
        assert distance(request.result(60), own) < 1e-5
    assert torch.equal(alone[2], plain(CASES[family].build(), asked))
    assert min(distance(alone[i], alone[i + 1]) for i in range(3)) > 0.02


@each("sd", "flux")
def test_afterwards_the_pipeline_is_as_it_was(drawing: Drawing, family: str):
    def layers() -> int:
        parts = (part for part in drawing.pipe.components.values() if isinstance(part, nn.Module))
        names = [("forward" in vars(own)) for part in parts for own in part.modules()]
        return sum(names)

    full = layers()
    drawing.adapters.remove("oil")
    assert layers() == full  # ink needs the same
    request = drawing.ask(CASES[family].asked()[0], [("ink", 0.8)])
    assert distance(request.result(60), references(family)[0]) < 1e-5
    drawing.adapters.close()
    assert layers() < full / 4
    asked = CASES[family].asked()[0]
    assert torch.equal(plain(drawing.pipe, asked), plain(CASES[family].build(), asked))


@each("sd")
def test_one_that_is_used_stays(drawing: Drawing, family: str):
    asked = CASES[family].asked()[0]
    with held(drawing.engine):
        request = drawing.ask(asked, [("ink", 0.8), ("oil", 0.0)])
        for name in ("ink", "oil"):
            with pytest.raises(RequestError, match=f"LoRA '{name}' is in use by 1 request"):
                drawing.adapters.remove(name)
    request.result(60)
    drawing.adapters.remove("ink")
    with pytest.raises(RequestError, match="there is no LoRA 'ink'; loaded are: oil"):
        drawing.ask(asked, [("ink", 0.8)])
    with pytest.raises(RequestError, match="there is a LoRA 'oil' already; remove it first"):
        drawing.adapters.add("oil", files(family)["oil"])
    with pytest.raises(RequestError, match="did you mean 'oil'"):
        drawing.adapters.remove("oill")


class Reshaping(nn.Module):
    """Its second layer is not led by rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.tokens = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(self.rows(x).flatten(0, 1)).view(x.shape)


class Two:
    """A pipeline of that."""

    def __init__(self) -> None:
        self.components = {"unet": Reshaping()}


class Given(ImageAdapters):
    """Adapters with layers that are given instead of read."""

    def _read(self, path: Any) -> dict[str, LoraLayer]:
        torch.manual_seed(len(str(path)))
        names = ("unet.rows", "unet.tokens") if "tokens" in str(path) else ("unet.rows",)
        return {name: LoraLayer(torch.randn(2, 4), torch.randn(4, 2)) for name in names}


@pytest.fixture
def small() -> tuple[Any, dict[str, Any]]:
    pipe = Two()
    adapters = Given(pipe)
    adapters.add("a", "rows")
    adapters.add("b", "tokens")
    held: dict[str, Any] = {}
    ended = Request(lambda own: None, Need())
    ended.emit(Failed(Cancelled()))

    def submit(own: Any) -> Any:
        held.update(a=own[0][0], b=own[1][0])
        return ended

    adapters.start([("a", 1.0), ("b", 1.0)], submit)
    return pipe.components["unet"], held


def expected(module: Any, x: Tensor, layers: list[tuple[Any, float]]) -> Tensor:
    out = x
    for name in ("rows", "tokens"):
        deltas = [
            weight * layer.b @ layer.a
            for adapter, weight in layers
            if (layer := adapter.layers.get(f"unet.{name}")) is not None
        ]
        own = getattr(module, name)
        out = out @ (own.weight + sum(deltas, torch.zeros(4, 4))).T + own.bias
    return out


@torch.inference_mode()
def test_where_all_rows_have_the_same_any_shape_will_do(small: Any):
    module, held = small
    torch.manual_seed(0)
    x, own = torch.randn(3, 5, 4), ((held["a"], 0.5), (held["b"], 2.0))
    with running([(None, 1, own), (None, 2, own)]):
        torch.testing.assert_close(module(x), expected(module, x, list(own)))
    with computed_with(own):  # outside an engine
        torch.testing.assert_close(module(x), expected(module, x, list(own)))


@torch.inference_mode()
def test_where_rows_differ_a_layer_that_is_not_led_by_them_refuses(small: Any):
    module, held = small
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4)
    with (
        running([(None, 1, ((held["b"], 0.5),)), (None, 2, ())]),
        pytest.raises(ModelError, match="given 15 rows of a forward of 3"),
    ):
        module(x)


@torch.inference_mode()
def test_rows_apart_and_parts_of_a_forward(small: Any):
    """As a step cache divides them."""
    module, held = small
    x, a = torch.randn(4, 5, 4), held["a"]
    own = [(a, 1.0)], [], [(a, -2.0)], []
    wanted = torch.cat([expected(module, x[i : i + 1], list(own[i])) for i in range(4)])
    with running([(None, 1, tuple(one)) for one in own]) as forward:
        torch.testing.assert_close(module(x), wanted)
        with part_of(forward, [2, 3]):
            torch.testing.assert_close(module(x[2:]), wanted[2:])
        with pytest.raises(ModelError, match="rows are not its forward's"), present_forward(9):
            pass
