"""Models of `gpu_diffusion.py`: shapes of SDXL and Flux with random weights, made on the device.

Around them are pipelines with text encoders of one thin layer and a thin autoencoder: of the right
widths, and no part of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peers.models import FLUX_TINY, SDXL, SDXL_TINY
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

FLUX: dict[str, Any] = {
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
MODELS = ("sdxl", "flux")
CLIP_TOKENS, T5_TOKENS = 77, 512
WORDS = 514  # of the tokenizers
SCALE = 8  # pixels for a latent's side


def denoiser(name: str, tiny: bool, layers: int | None, device: str, dtype: torch.dtype) -> Any:
    """The UNet or DiT, made on the device: no copy of it ever lies elsewhere.

    Args:
        layers: blocks of each kind at most; None for all of them.
    """
    torch.manual_seed(0)
    with made_in(device, dtype):
        if name == "sdxl":
            shape = dict(SDXL_TINY if tiny else SDXL)
            if layers is not None:
                depth = shape["transformer_layers_per_block"]
                shape["transformer_layers_per_block"] = tuple(min(own, layers) for own in depth)
            return UNet2DConditionModel(**shape).eval().requires_grad_(False)
        shape = dict(FLUX_TINY if tiny else FLUX)
        for kind in ("num_layers", "num_single_layers"):
            shape[kind] = min(shape[kind], layers or shape[kind])
        return FluxTransformer2DModel(**shape).eval().requires_grad_(False)


@contextmanager
def made_in(device: str, dtype: torch.dtype) -> Any:
    """What is made inside lies there, in this dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def step(name: str, model: Any, size: int) -> Callable[[], torch.Tensor]:
    """One forward of a denoiser, as a pipeline makes it: SDXL's is guided, of two rows."""
    weight = next(model.parameters())
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(weight.device, weight.dtype)

    side, config = size // SCALE, model.config
    if name == "sdxl":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        added = {"text_embeds": drawn(2, pooled), "time_ids": drawn(2, 6)}
        given = drawn(2, 4, side, side), torch.tensor(500, device=weight.device)
        text = drawn(2, CLIP_TOKENS, config.cross_attention_dim)
        return lambda: model(*given, text, added_cond_kwargs=added, return_dict=False)[0]
    half = side // 2
    places = torch.stack(torch.meshgrid(*[torch.arange(float(half))] * 2, indexing="ij"), -1)
    places = torch.nn.functional.pad(places.view(-1, 2), (1, 0)).to(weight.device, weight.dtype)
    named = {
        "hidden_states": drawn(1, half * half, config.in_channels),
        "encoder_hidden_states": drawn(1, T5_TOKENS, config.joint_attention_dim),
        "pooled_projections": drawn(1, config.pooled_projection_dim),
        "timestep": drawn(1).abs(),
        "img_ids": places,
        "txt_ids": torch.zeros(T5_TOKENS, 3, device=weight.device, dtype=weight.dtype),
        "guidance": torch.full((1,), 3.5, device=weight.device),
    }
    return lambda: model(**named, return_dict=False)[0]


def pipeline(name: str, model: Any) -> Any:
    """A whole pipeline round a denoiser; several may be made round one."""
    weight = next(model.parameters())
    device, dtype = str(weight.device), weight.dtype
    torch.manual_seed(2)
    with made_in(device, dtype):
        vae = _autoencoder(4 if name == "sdxl" else 16)
        parts = _sdxl_texts(model.config) if name == "sdxl" else _flux_texts(model.config)
    tokenizers = {"tokenizer": _clip_tokenizer()}
    if name == "sdxl":
        scheduler: Any = EulerDiscreteScheduler()
        tokenizers["tokenizer_2"] = _clip_tokenizer()
        more = {"unet": model, "scheduler": scheduler, "add_watermarker": False}
        pipe: Any = StableDiffusionXLPipeline(vae=vae, **parts, **tokenizers, **more)
    else:
        more = {"transformer": model, "scheduler": FlowMatchEulerDiscreteScheduler()}
        more["tokenizer_2"] = _t5_tokenizer()
        pipe = FluxPipeline(vae=vae, **parts, **tokenizers, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _autoencoder(channels: int) -> AutoencoderKL:
    kinds: Any = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (16, 16, 16, 16),
    }
    more: Any = {"norm_num_groups": 8, "layers_per_block": 1, "force_upcast": False}
    moved: Any = {} if channels == 4 else {"shift_factor": 0.1, "use_quant_conv": False}
    return AutoencoderKL(**kinds, **more, **moved, latent_channels=channels).eval()


def _clip(width: int, projection: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=WORDS,
        hidden_size=width,
        intermediate_size=64,
        projection_dim=projection,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=WORDS - 2,
        eos_token_id=WORDS - 1,
        pad_token_id=WORDS - 1,
    )


def _sdxl_texts(config: Any) -> dict[str, Any]:
    """Two encoders whose widths are the cross attention's together."""
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    first = config.cross_attention_dim * 3 // 8
    second = _clip(config.cross_attention_dim - first, pooled)
    return {
        "text_encoder": CLIPTextModel(_clip(first, first)).eval(),
        "text_encoder_2": CLIPTextModelWithProjection(second).eval(),
    }


def _flux_texts(config: Any) -> dict[str, Any]:
    wide = config.joint_attention_dim
    t5 = T5Config(vocab_size=98, d_model=wide, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    pooled = config.pooled_projection_dim
    return {
        "text_encoder": CLIPTextModel(_clip(pooled, pooled)).eval(),
        "text_encoder_2": T5EncoderModel(t5).eval(),
    }


def _clip_tokenizer() -> CLIPTokenizer:
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=CLIP_TOKENS)


def _t5_tokenizer() -> T5Tokenizer:
    letters = ["\u2581", *(chr(code) for code in range(33, 127))]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab = [*special, *((letter, -2.0) for letter in letters)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=T5_TOKENS)
