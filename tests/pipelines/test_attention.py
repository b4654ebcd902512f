"""Our attention goes on a loaded model where it adds something, and only there."""

from __future__ import annotations

import pytest

from mindsd.attention import chosen
from mindsd.attention.cpu import Reference
from mindsd.attention.registry import Registry, default_registry
from mindsd.attention.sdpa import Sdpa
from mindsd.errors import RequestError
from mindsd.pipelines.text_to_image import TextToImage
from tests.zoo.stable_diffusion import stable_diffusion


def test_where_torch_is_the_best_answer_diffusers_own_calls_stay():
    pipe = stable_diffusion()
    with TextToImage.load(pipe, device="cpu") as draw:
        assert draw.model.attached is None
    assert not default_registry().outdoes_torch(draw.model.device.torch, pipe.dtype)


def test_a_faster_backend_is_attached_and_taken_off_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chosen, "default_registry", lambda: Registry([Reference(), Sdpa()]))
    pipe = stable_diffusion()
    processors = dict(pipe.unet.attn_processors)
    with TextToImage.load(pipe, device="cpu") as draw:
        draw("a fox", steps=1, seed=1)
        assert draw.model.attached is not None and draw.model.attached.calls > 0
    assert pipe.unet.attn_processors == processors
    assert all("forward" not in vars(module) for module in pipe.unet.modules())


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chosen, "default_registry", lambda: Registry([Reference(), Sdpa()]))
    with TextToImage.load(stable_diffusion(), device="cpu", attention="off") as draw:
        assert draw.model.attached is None
    with pytest.raises(RequestError, match="unknown attention 'fast'; choose auto, off"):
        TextToImage.load(stable_diffusion(), device="cpu", attention="fast")
