"""Training the autoencoder: 128x128 pixels to 32x32x4 latents and back.

Started so that the colour of flat areas passes through the untrained network, and trained mostly
on crops. At the end each latent channel is brought to mean 0 and deviation 1 by folding the change
into the 1x1 convolutions around the latents, so `scaling_factor` is 1.
"""

# diffusers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import random

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from .muon import Muon
from .renderer import render
from .scenes import RESOLUTION, sample_scene
from .training import Run, TrainingOptions, parse_options

CHANNELS = (16, 32, 64)
LATENT_CHANNELS = 4
MUON_RATE, ADAM_RATE = 0.012, 1e-3
KL_WEIGHT, EDGE_WEIGHT = 3e-4, 1.0
LATENT_NOISE = 0.1
CROPS = {32: 16, 64: 5, 128: 2}
SCENES = 4000
AVERAGE_DECAY = 0.99


def build_vae(channels: tuple[int, ...] = CHANNELS) -> AutoencoderKL:
    levels = len(channels)
    vae = AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=RESOLUTION,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    preserve_signal(vae)
    return vae


@torch.no_grad()
def preserve_signal(model: nn.Module) -> None:
    """Unit-gain convolutions, no biases, quiet residual branches.

    torch's own initialisation shrinks flat colour by about 1/sqrt(3) at every convolution until
    the random biases drown it.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                layer.bias.zero_()
            if name.endswith("conv2"):
                layer.weight.mul_(0.1)


def render_scenes(number: int, seed: int) -> Tensor:
    """uint8 (number, 3, 128, 128) pictures of training scenes."""
    rng = random.Random(seed)
    scenes = (sample_scene(rng, held_out=False) for _ in range(number))
    pictures = torch.from_numpy(np.stack([render(scene, rng) for scene in scenes]))
    return pictures.permute(0, 3, 1, 2).contiguous()


def to_model(pixels: Tensor) -> Tensor:
    """uint8 pixels to float32 in -1..1."""
    return pixels.float() / 127.5 - 1


def crop(pictures: Tensor, step: int, progress: float) -> Tensor:
    """A batch of random crops, half of the batches mirrored: the smaller the crop, the more."""
    size = (32, 64)[step % 2] if progress < 0.6 else (32, 64, 64, 128)[step % 4]
    batch = pictures[torch.randint(0, len(pictures), (CROPS[size],))]
    top, left = torch.randint(0, RESOLUTION + 1 - size, (2,)).tolist()
    batch = batch[:, :, top : top + size, left : left + size]
    return to_model(batch.flip(3) if torch.rand(1) < 0.5 else batch)


def reconstruction_loss(vae: AutoencoderKL, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and, for the log, its plain L1 part.

    Noise on the latents makes the decoder forgive the denoiser's small errors.
    """
    posterior = vae.encode(pixels).latent_dist
    latents = posterior.sample()
    shown = vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample
    l1 = F.l1_loss(shown, pixels)
    edges = sum(F.l1_loss(shown.diff(dim=d), pixels.diff(dim=d)) for d in (2, 3))
    kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
    loss = l1 + 0.5 * F.mse_loss(shown, pixels) + EDGE_WEIGHT * edges + KL_WEIGHT * kl
    return loss, l1


@torch.no_grad()
def standardize(vae: AutoencoderKL, pixels: Tensor) -> None:
    """Give every latent channel mean 0 and deviation 1 over `pixels`, with the pictures unchanged.

    Exact: both neighbours of the latents are 1x1 convolutions, and the logvar half moves along.
    """
    latents = vae.encode(pixels).latent_dist.mode()
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    before, after = vae.quant_conv, vae.post_quant_conv
    assert before is not None and after is not None
    assert before.bias is not None and after.bias is not None
    before.weight[:LATENT_CHANNELS] /= deviation[:, None, None, None]
    before.bias[:LATENT_CHANNELS] = (before.bias[:LATENT_CHANNELS] - mean) / deviation
    before.bias[LATENT_CHANNELS:] -= 2 * deviation.log()
    after.bias += (after.weight[:, :, 0, 0] * mean).sum(1)
    after.weight *= deviation[None, :, None, None]


def train(options: TrainingOptions, channels: tuple[int, ...] = CHANNELS) -> None:
    """Writes `vae` to options.out."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    pictures = render_scenes(SCENES, seed=1)
    vae = build_vae(channels).to(options.device)
    optimizer = Muon(vae.named_parameters(), MUON_RATE, ADAM_RATE, ("conv_in", "conv_out"))
    run = Run("vae", options, vae, optimizer, AVERAGE_DECAY)
    for progress in run:
        pixels = crop(pictures, run.step, progress).to(options.device)
        run.learn(*reconstruction_loss(vae, pixels))
    run.average.swap()
    standardize(vae, to_model(pictures[:256]).to(options.device))
    vae.save_pretrained(options.out / "vae")


if __name__ == "__main__":
    train(parse_options(__doc__, minutes=11))
