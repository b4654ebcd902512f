"""What a user may wish of attention on the simulated device: less of it, or somebody else's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mindsd.attention.contract import Call
from mindsd.attention.cpu import Reference
from mindsd.attention.npu import Npu
from mindsd.attention.npu_skipping import NpuSkipping, nearest
from mindsd.attention.npu_sparse import STEP
from mindsd.attention.registry import Registry
from mindsd.errors import RequestError
from tests.npu.device.paths import ASKED, PROMPTS, levels, on_cpu, opened

HALF, LONG, SHARE = torch.float16, 256, 0.3
SPARSE, DENSE = "npu_block_sparse_attention", "npu_fusion_attention"


class Emulated(Reference):
    """Leaves out the same blocks by a mask, in plain torch."""

    def run(self, call: Call) -> Tensor:
        if min(call.q.shape[2], call.k.shape[2]) < LONG:
            return super().run(call)
        blocks = nearest(call.q, call.k, SHARE)
        keep = blocks.repeat_interleave(STEP, 2).repeat_interleave(STEP, 3)
        mask = keep[:, :, : call.q.shape[2], : call.k.shape[2]]
        return super().run(replace(call, mask=mask))


def film() -> Any:
    """A transformer of videos whose heads are as wide as the operator wants them."""
    from diffusers import WanTransformer3DModel

    from tests.zoo.weights import grow

    sizes = {"num_attention_heads": 2, "attention_head_dim": 64, "ffn_dim": 64, "num_layers": 2}
    more = {"in_channels": 4, "out_channels": 4, "text_dim": 32, "freq_dim": 16}
    return grow(WanTransformer3DModel, patch_size=(1, 2, 2), rope_max_seq_len=32, **sizes, **more)


@torch.inference_mode()
def test_a_video_reads_a_third_of_its_keys(npu):
    """5 frames of 64 tokens: 320, three blocks; its words stay as they are."""
    from mindsd.attention.for_diffusers import attach

    generator = torch.Generator().manual_seed(0)
    shapes = (1, 4, 5, 16, 16), (1, 6, 32)
    frames, words = (torch.randn(shape, generator=generator).half() for shape in shapes)
    time, model = torch.tensor([500]), film().half()

    def seen(model: Any, device: str, registry: Registry | None) -> Tensor:
        given = [x.to(device) for x in (frames, time, words)]
        if registry is None:
            return model(*given, return_dict=False)[0].cpu().float()
        with attach(model, registry):
            return model(*given, return_dict=False)[0].cpu().float()

    exact, lossy = seen(model, "cpu", None), seen(model, "cpu", Registry([Emulated()], []))
    own = Registry([NpuSkipping(SHARE, long=LONG), Npu()], [])
    model.to("npu")
    seen(model, "npu", own)  # with its self-tests
    npu.log.clear()
    found = seen(model, "npu", own)
    assert Counter(npu.log.ops()) == {SPARSE: 2, DENSE: 2}
    most = exact.abs().max()
    apart, cost = (found - lossy).abs().max(), (found - exact).abs().max()
    assert apart <= 0.005 * most and 3 * apart < cost


def test_short_pictures_leave_nothing_out(npu):
    with opened("sd", "npu", HALF, attention="sparse:0.5") as own:
        registry = own.model.attached._diversion.registry
        assert registry.backends[0].name == "npu sparse:0.5"
        npu.log.clear()
        images = levels(own(PROMPTS, **ASKED).images)
        assert SPARSE not in npu.log.ops() and DENSE in npu.log.ops()
    assert abs(images - on_cpu("sd")).max() <= 2
    q = torch.zeros(1, 1, 4096, 64, dtype=HALF, device="npu")
    assert registry.choose(Call(q, q, q)).name == "npu sparse:0.5"


@pytest.mark.parametrize("package", ["mindiesd", "flash-attn-npu"])
def test_a_package_that_is_not_there_is_refused(npu, package):
    with pytest.raises(RequestError, match=f"not installed: {package}"):
        opened("sd", "npu", HALF, attention=package)
