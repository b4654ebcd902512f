"""What people add to a denoiser: a picture's IP-Adapter, a LoRA; large enough to matter."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig

from tests.zoo.encoders import WIDTH
from tests.zoo.stable_diffusion import stable_diffusion

TOKENS = 4  # a picture's, as the first IP-Adapter has them
SEEN = 24  # width of a picture's embedding


def with_picture_adapter() -> StableDiffusionPipeline:
    """SD that is also shown a picture, as `ip_adapter_image_embeds`."""
    pipe: Any = stable_diffusion()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        projection = {
            "proj.weight": torch.randn(TOKENS * WIDTH, SEEN) * 0.3,
            "proj.bias": torch.randn(TOKENS * WIDTH) * 0.3,
            "norm.weight": torch.ones(WIDTH),
            "norm.bias": torch.zeros(WIDTH),
        }
        weights = {}
        for place, name in enumerate(pipe.unet.attn_processors):
            if "attn2" in name:
                width = pipe.unet.get_submodule(name.removesuffix(".processor")).inner_dim
                for part in ("to_k_ip", "to_v_ip"):
                    weights[f"{place}.{part}.weight"] = torch.randn(width, WIDTH) * 0.3
    pipe.unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": weights}])
    return pipe


def picture_embeds(seed: int) -> list[torch.Tensor]:
    """One picture seen by the conditional row, none by the unconditional one: [2, 1, SEEN]."""
    seen = torch.randn(1, 1, SEEN, generator=torch.Generator().manual_seed(seed))
    return [torch.cat([torch.zeros_like(seen), seen])]


def add_lora(module: Any, seed: int = 13) -> None:
    """A LoRA on every attention of a diffusers model."""
    parts = ["to_q", "to_k", "to_v", "to_out.0"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, lora_alpha=16, init_lora_weights=False, target_modules=parts)
        module.add_adapter(config)
