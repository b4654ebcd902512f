"""A pipeline class that nobody has heard of: its own loop, its own denoiser, its own scheduler use.

What every image pipeline of tomorrow has in common with it: components that are modules, one of
them called once a step. mindsd must run it without knowing more.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from transformers import CLIPTextModel, CLIPTokenizer

from tests.zoo.autoencoders import autoencoder
from tests.zoo.encoders import WIDTH, clip_text
from tests.zoo.tokenizers import clip_tokenizer
from tests.zoo.weights import grow


class Dreamer(ModelMixin, ConfigMixin):
    """Latents [B, 4, h, w], words [B, n, WIDTH], a progress number: the velocity [B, 4, h, w]."""

    @register_to_config
    def __init__(self, channels: int = 4, width: int = WIDTH):
        super().__init__()
        self.enter = torch.nn.Conv2d(channels, width, 3, padding=1)
        self.heed = torch.nn.MultiheadAttention(width, 4, batch_first=True)
        self.leave = torch.nn.Conv2d(width, channels, 3, padding=1)

    def forward(
        self, vision: torch.Tensor, words: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor]:
        seen = self.enter(vision) + timestep.reshape(-1, 1, 1, 1).to(vision.dtype) / 1000
        tokens = seen.flatten(2).transpose(1, 2)
        heeded = self.heed(tokens, words, words, need_weights=False)[0]
        return (self.leave(torch.tanh(seen + heeded.transpose(1, 2).reshape(seen.shape))),)


class Thought(torch.nn.Module):
    """Tokens [B, n, WIDTH] that heed words, and what they make of them."""

    def __init__(self, width: int):
        super().__init__()
        self.heed = torch.nn.MultiheadAttention(width, 4, batch_first=True)
        self.muse = torch.nn.Linear(width, width)

    def forward(self, vision: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        heeded = self.heed(vision, words, words, need_weights=False)[0]
        return vision + torch.tanh(self.muse(vision + heeded))


class LayeredDreamer(ModelMixin, ConfigMixin):
    """The same, thinking in layers: what a step cache can make out without knowing it."""

    @register_to_config
    def __init__(self, channels: int = 4, width: int = WIDTH):
        super().__init__()
        self.enter = torch.nn.Linear(channels, width)
        self.blocks = torch.nn.ModuleList(Thought(width) for _ in range(3))
        self.leave = torch.nn.Linear(width, channels)

    def forward(
        self, vision: torch.Tensor, words: torch.Tensor, timestep: torch.Tensor
    ) -> tuple[torch.Tensor]:
        seen = self.enter(vision.flatten(2).mT) + timestep.reshape(-1, 1, 1) / 1000
        for block in self.blocks:
            seen = block(seen, words)
        return (self.leave(seen).mT.reshape(vision.shape),)


class DreamPipeline(DiffusionPipeline):
    """Draws by flow matching with the text's influence growing on the way."""

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        dreamer: Dreamer | LayeredDreamer,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ):
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            dreamer=dreamer,
            scheduler=scheduler,
        )
        self.vae_scale_factor = 2
        self.image_processor = VaeImageProcessor(vae_scale_factor=2)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str,
        width: int = 32,
        height: int = 32,
        num_inference_steps: int = 4,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> tuple[object]:
        words = self.text_encoder(self._tokens(prompt)).last_hidden_state
        latents = randn_tensor((1, 4, height // 2, width // 2), generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        bar: Any = self.progress_bar
        for number, time in enumerate(bar(self.scheduler.timesteps)):
            heard = words * (number + 1) / num_inference_steps
            velocity = self.dreamer(latents, heard, timestep=time)[0]
            latents = self.scheduler.step(velocity, time, latents, return_dict=False)[0]
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (self.image_processor.postprocess(pixels, output_type=output_type),)

    def _tokens(self, prompt: str) -> torch.Tensor:
        return self.tokenizer(
            prompt, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids


def unheard_of(kind: type[Dreamer] | type[LayeredDreamer] = Dreamer) -> DreamPipeline:
    return DreamPipeline(
        vae=autoencoder(),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        dreamer=grow(kind),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
