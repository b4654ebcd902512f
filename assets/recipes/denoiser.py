"""Training the denoiser on encoded scenes.

Text reaches it by two doors: cross-attention at 8x8 and 4x4, and the pooled embedding that is added
to the time embedding (`addition_embed_type="text"`), which starts from the pooling the text
encoder was trained with. The text encoder stays as it is.

v-prediction with zero terminal SNR (Lin et al., 2023, arXiv:2305.08891): without it flat coloured
backgrounds cannot be obeyed.
"""

# diffusers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportCallIssue=false

import random
from typing import NamedTuple

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from .captions import caption
from .latents import read_latents
from .muon import Muon
from .scenes import RESOLUTION, TASKS, Scene
from .text_encoder import POOL_HEADS, TIME_WIDTH, WIDTH, token_ids
from .training import Run, TrainingOptions, parse_options
from .workers import start_workers, worker, workers

CHANNELS = (32, 48, 96, 128)
ATTENTION = (False, False, True, True)
BATCH = 48
MUON_RATE, ADAM_RATE = 0.02, 2e-3
AVERAGE_DECAY = 0.995
SILENT_CAPTIONS = 0.1
TIMESTEP_SHIFT = 2.0
OBJECT_WEIGHT, OBJECT_MARGIN = 5.0, 5
SINGLES_UNTIL = 0.15


def build_denoiser(
    channels: tuple[int, ...] = CHANNELS, attention: tuple[bool, ...] = ATTENTION
) -> UNet2DConditionModel:
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention))
    unet = UNet2DConditionModel(
        sample_size=RESOLUTION // 4,
        block_out_channels=channels,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        time_embedding_dim=TIME_WIDTH,
        addition_embed_type="text",
        addition_embed_type_num_heads=POOL_HEADS,
        resnet_time_scale_shift="scale_shift",
    )
    silence_residuals(unet)
    return unet


@torch.no_grad()
def silence_residuals(unet: nn.Module) -> None:
    """Start with residual branches and the output at zero."""
    for name, layer in unet.named_modules():
        if name.endswith(("conv2", "proj_out", "conv_out")):
            for parameter in layer.parameters():
                parameter.zero_()


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )


def object_weights(scene: Scene) -> Tensor:
    """Loss weight of each latent cell, (32, 32): more under the objects, 1 on average."""
    centers = (torch.arange(RESOLUTION // 4) + 0.5) * 4
    weights = torch.ones(len(centers), len(centers))
    for thing in scene.things:
        reach = thing.extent / 2 + OBJECT_MARGIN
        inside_y = (centers - thing.y).abs() < reach
        weights[inside_y[:, None] & ((centers - thing.x).abs() < reach)] = OBJECT_WEIGHT
    return weights / weights.mean()


def sample_timesteps(number: int) -> Tensor:
    """int64 timesteps 0..999, shifted towards noise."""
    uniform = torch.rand(number)
    shifted = TIMESTEP_SHIFT * uniform / (1 + (TIMESTEP_SHIFT - 1) * uniform)
    return (shifted * 1000).long().clamp(0, 999)


def corrupt(clean: Tensor, timesteps: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """The noisy latents and the velocity the denoiser is to say."""
    noise, alpha = torch.randn_like(clean), alphas[timesteps].view(-1, 1, 1, 1)
    keep, spoil = alpha.sqrt(), (1 - alpha).sqrt()
    return keep * clean + spoil * noise, keep * noise - spoil * clean


class Batch(NamedTuple):
    """Latents (batch, 4, 32, 32), captions (some are empty), loss weights of the cells, scenes."""

    latents: Tensor
    captions: list[str]
    weights: Tensor
    scenes: list[Scene]


class Batches:
    """Random scenes: single objects first, then all tasks."""

    def __init__(self, latents: Tensor, scenes: list[Scene]) -> None:
        self.latents, self.scenes = latents, scenes
        self.weights = torch.stack([object_weights(scene).half() for scene in scenes])
        self.by_task = {
            task: torch.tensor([i for i, scene in enumerate(scenes) if scene.task == task])
            for task in TASKS
        }

    def draw(self, number: int, progress: float, rng: random.Random) -> Batch:
        pool = torch.arange(len(self.scenes))
        if progress < SINGLES_UNTIL:
            pool = torch.cat([self.by_task["single"], self.by_task["count"]])
        chosen = pool[torch.randint(0, len(pool), (number,))]
        scenes = [self.scenes[i] for i in chosen.tolist()]
        captions = [
            "" if rng.random() < SILENT_CAPTIONS else caption(scene, rng) for scene in scenes
        ]
        return Batch(self.latents[chosen].float(), captions, self.weights[chosen].float(), scenes)


def train(options: TrainingOptions, channels: tuple[int, ...] = CHANNELS) -> None:
    """Reads what the other recipes left in options.out and adds `unet`."""
    start_workers()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    out, device, share = options.out, options.device, BATCH // workers()
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(out / "text_encoder", dtype=torch.float32)
    encoder = encoder.to(device).eval()
    batches = Batches(*read_latents(out))
    unet = build_denoiser(channels).to(device, memory_format=torch.channels_last)
    unet.add_embedding.load_state_dict(torch.load(out / "pooling.checkpoint", weights_only=True))
    unet.set_attn_processor(AttnProcessor())
    alphas = build_scheduler().alphas_cumprod.to(device)
    optimizer = Muon(unet.named_parameters(), MUON_RATE, ADAM_RATE, ("conv_in", "conv_out"))
    run = Run("denoiser", options, unet, optimizer, AVERAGE_DECAY)
    rng = random.Random(run.seed)
    for progress in run:
        latents, captions, weights, _ = batches.draw(share, progress, rng)
        with torch.no_grad():
            text = encoder(token_ids(tokenizer, captions).to(device))[0]
        timesteps = sample_timesteps(share).to(device)
        noisy, velocity = corrupt(latents.to(device), timesteps, alphas)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=options.autocast):
            said = unet(noisy, timesteps, text).sample.float()
        error = (said - velocity).square().mean(1)
        run.learn((error * weights.to(device)).mean(), shown=error.mean())
    run.save()
    if worker() != 0:
        return
    run.average.swap()
    unet.save_pretrained(out / "unet")


if __name__ == "__main__":
    train(parse_options(__doc__, minutes=80, can_autocast=True))
