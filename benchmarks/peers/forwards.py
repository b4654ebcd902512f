"""One forward of a large denoiser, or of an autoencoder's decoder, with random weights and inputs.

Shapes are those of Stable Diffusion 1.5 and PixArt-alpha at 512 x 512, two images at once (guided),
and a decoding of one image. In every process of one torch numbers are the same: they follow a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, PixArtTransformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

MODELS = {"unet": "UNet step", "dit": "DiT step", "vae": "VAE decode"}
Ask = Callable[..., Tensor]  # the model, then the inputs


class Forward(nn.Module):
    """A model and the inputs that it is asked with, all of them tensors.

    Attributes:
        model: in inference.
        inputs: what `forward` takes, in this order.
    """

    def __init__(self, model: nn.Module, ask: Ask, inputs: tuple[Tensor, ...]):
        super().__init__()
        self.model = model.eval()
        self.inputs = inputs
        self._ask = ask

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._ask(self.model, *inputs)


def made(name: str, dtype: torch.dtype, tiny: bool = False) -> Forward:
    """The forward of a name of `MODELS`; with `tiny`, the same parts of a few channels."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # weights are made in it: no copy in float32
    try:
        return {"unet": _unet, "dit": _dit, "vae": _vae}[name](tiny)
    finally:
        torch.set_default_dtype(before)


def _unet(tiny: bool) -> Forward:
    few: Any = {"block_out_channels": (32, 64, 64, 64), "norm_num_groups": 8} if tiny else {}
    text, side = (32, 8) if tiny else (768, 64)
    model = UNet2DConditionModel(sample_size=side, cross_attention_dim=text, **few)

    def ask(model: Any, latents: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return model(latents, time, text, return_dict=False)[0]

    inputs = torch.randn(2, 4, side, side), torch.tensor(500), torch.randn(2, 77, text)
    return Forward(model, ask, inputs)


def _dit(tiny: bool) -> Forward:
    few: Any = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 32} if tiny else {}
    width, text, side = (64, 32, 8) if tiny else (1152, 4096, 64)
    model = PixArtTransformer2DModel(
        sample_size=side, cross_attention_dim=width, caption_channels=text, **few
    )

    def ask(model: Any, latents: Tensor, text: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        given: dict[str, Any] = {"encoder_hidden_states": text, "encoder_attention_mask": mask}
        given["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
        return model(latents, **given, timestep=time, return_dict=False)[0]

    latents, words = torch.randn(2, 4, side, side), torch.randn(2, 120, text)
    return Forward(model, ask, (latents, words, torch.ones(2, 120), torch.tensor([500, 500])))


def _vae(tiny: bool) -> Forward:
    wide: Any = (32, 32, 32, 32) if tiny else (128, 256, 512, 512)
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": wide,
        "layers_per_block": 2,
    }
    model = AutoencoderKL(**blocks)

    def ask(model: Any, latents: Tensor) -> Tensor:
        return model.decode(latents, return_dict=False)[0]

    side = 8 if tiny else 64
    return Forward(model, ask, (torch.randn(1, 4, side, side),))
