"""Diffusers pipelines with random weights in the shape of well-known models, and what to ask them.

Text encoders and autoencoders are left out (prompts come as embeddings, images stay latents), so
that what is timed is the denoiser.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor

from .job import Job

SD15: dict[str, Any] = {"cross_attention_dim": 768, "sample_size": 64}  # diffusers' defaults
SD15_TINY: dict[str, Any] = {
    **SD15,
    "block_out_channels": (32, 64, 64, 64),
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
}
SDXL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SDXL_TINY: dict[str, Any] = {
    **SDXL,
    "block_out_channels": (32, 64, 64),
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (2, 4, 4),
    "cross_attention_dim": 32,
    "norm_num_groups": 8,
    "projection_class_embeddings_input_dim": 6 * 256 + 32,
}
FLUX: dict[str, Any] = {
    "num_layers": 4,
    "num_single_layers": 8,
    "attention_head_dim": 128,
    "num_attention_heads": 8,
    "joint_attention_dim": 1024,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
FLUX_TINY: dict[str, Any] = {
    **FLUX,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "axes_dims_rope": (8, 12, 12),
}
TEXT_TOKENS = {"sd15": 77, "sdxl": 77, "flux": 128}


def build(job: Job) -> Any:
    """The pipeline that a job is about."""
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, job.dtype))  # weights are made in it: no copy in float32
    pipe = _BUILD[job.model](job.tiny)
    torch.set_default_dtype(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def asked(job: Job, pipe: Any) -> dict[str, Any]:
    """The arguments of its call, all but the number of steps."""
    generator = torch.Generator().manual_seed(1)
    dtype = getattr(torch, job.dtype)

    def embedding(*shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=generator).to(dtype)

    config = denoiser(pipe).config
    wide = config.joint_attention_dim if job.model == "flux" else config.cross_attention_dim
    arguments: dict[str, Any] = {
        "prompt_embeds": embedding(TEXT_TOKENS[job.model], wide),
        "height": job.size,
        "width": job.size,
        "generator": generator,
        "output_type": "latent",
    }
    if job.model == "sdxl":
        arguments["pooled_prompt_embeds"] = embedding(
            config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        )
    if job.model == "flux":
        return arguments | {"pooled_prompt_embeds": embedding(config.pooled_projection_dim)}
    negative = {f"negative_{name}": -arguments[name] for name in arguments if "embeds" in name}
    return arguments | negative | {"guidance_scale": 5.0 if job.guided else 1.0}


def denoiser(pipe: Any) -> Any:
    return getattr(pipe, "unet", None) or pipe.transformer


def deepest(pipe: Any) -> torch.nn.Module:
    """A layer that runs in whole steps only; no tool wraps a layer this far inside."""
    model = denoiser(pipe)
    if isinstance(model, UNet2DConditionModel):
        return model.mid_block.resnets[0].conv1  # pyright: ignore
    return model.transformer_blocks[1].attn.to_q


def _sd15(tiny: bool) -> StableDiffusionPipeline:
    scheduler: Any = DDIMScheduler(steps_offset=1, clip_sample=False)
    return StableDiffusionPipeline(
        unet=UNet2DConditionModel(**(SD15_TINY if tiny else SD15)).eval(),
        scheduler=scheduler,
        **_without("vae", "text_encoder", "tokenizer", "safety_checker", "feature_extractor"),
        requires_safety_checker=False,
    )


def _sdxl(tiny: bool) -> StableDiffusionXLPipeline:
    scheduler: Any = EulerDiscreteScheduler()
    return StableDiffusionXLPipeline(
        unet=UNet2DConditionModel(**(SDXL_TINY if tiny else SDXL)).eval(),
        scheduler=scheduler,
        **_without("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
        add_watermarker=False,
    )


def _flux(tiny: bool) -> FluxPipeline:
    return FluxPipeline(
        transformer=FluxTransformer2DModel(**(FLUX_TINY if tiny else FLUX)).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **_without("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"),
    )


def _without(*names: str) -> Any:
    return dict.fromkeys(names)


_BUILD: dict[str, Any] = {"sd15": _sd15, "sdxl": _sdxl, "flux": _flux}
