"""Training the diffusion transformer of tiny-dit on encoded scenes, by rectified flow.

It is a Stable Diffusion 3 model (Esser et al., 2024, arXiv:2403.03206) beside tiny-sd's autoencoder
and text encoder. That pipeline takes its text from the encoder's last layer but one, and the pooled
text from the last: so tiny-sd's two layers stay as they are, and one more is put on top of them,
which learns to pool.

An examiner, in training only, asks the pooled text for the scene's attributes, and the image tokens
of a middle layer for the colour and the shape under each patch.
"""

# diffusers and transformers annotate less than they take and return.
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

import random
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from .denoiser import Batches
from .latents import read_latents
from .muon import Muon
from .scenes import COLORS, RESOLUTION, SHAPES, Scene
from .text_encoder import GRID, NAMES, examination_loss, token_ids
from .training import Run, TrainingOptions, parse_options

WIDTH, HEADS, LAYERS = 192, 6, 6
EXAMINED_LAYER, EXAMINATION_WEIGHT = 3, 0.1
BATCH = 64
MUON_RATE, ADAM_RATE = 0.015, 2e-3
AVERAGE_DECAY = 0.995
NOISE_SHIFT = 2.0
TEXT_PARTS = 2  # a Stable Diffusion 3 pipeline has two such text encoders; here they are the same


def build_transformer(
    text_width: int, width: int = WIDTH, heads: int = HEADS, layers: int = LAYERS
) -> SD3Transformer2DModel:
    """A token for each 4x4 latents: 64 for a picture, which has to be 128x128 pixels or smaller."""
    transformer = SD3Transformer2DModel(
        sample_size=RESOLUTION // 4,
        patch_size=RESOLUTION // 4 // GRID,
        in_channels=4,
        out_channels=4,
        num_layers=layers,
        attention_head_dim=width // heads,
        num_attention_heads=heads,
        joint_attention_dim=TEXT_PARTS * text_width,
        caption_projection_dim=width,
        pooled_projection_dim=TEXT_PARTS * text_width,
        pos_embed_max_size=GRID,
        qk_norm="rms_norm",
    )
    silence_modulation(transformer)
    return transformer


@torch.no_grad()
def silence_modulation(transformer: nn.Module) -> None:
    """Start with every gate, shift and scale and with the output at zero."""
    for name, layer in transformer.named_modules():
        if name.endswith(("norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out")):
            for parameter in layer.parameters():
                parameter.zero_()


def build_pooling_encoder(trained: CLIPTextModel) -> CLIPTextModelWithProjection:
    """The trained text encoder, frozen, with one more layer and a projection that can learn."""
    config = CLIPTextConfig.from_dict(trained.config.to_dict())
    config.num_hidden_layers += 1
    config.projection_dim = config.hidden_size
    config._attn_implementation = "eager"
    encoder = CLIPTextModelWithProjection(config)
    encoder.text_model.load_state_dict(trained.state_dict(), strict=False)
    encoder.text_model.embeddings.requires_grad_(False)
    encoder.text_model.encoder.layers[:-1].requires_grad_(False)
    return encoder


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(shift=NOISE_SHIFT)


class Student(nn.Module):
    """The transformer, its text encoder and the examiner's questions to both."""

    def __init__(self, trained: CLIPTextModel, **size: int) -> None:
        super().__init__()
        self.text_encoder = build_pooling_encoder(trained)
        self.transformer = build_transformer(trained.config.hidden_size, **size)
        pooled_width = self.transformer.config.pooled_projection_dim
        self.attributes = nn.Linear(pooled_width, sum(map(len, NAMES.values())))
        self.cells = nn.Linear(self.transformer.inner_dim, len(COLORS) + 1 + len(SHAPES))

    def forward(
        self, noisy: Tensor, timesteps: Tensor, ids: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
        """Velocity (batch, 4, 32, 32), logits per attribute, logits per cell (batch, 64, 18)."""
        text = self.text_encoder(ids, output_hidden_states=True)
        hidden = torch.cat(TEXT_PARTS * [text.hidden_states[-2]], -1)
        pooled = torch.cat(TEXT_PARTS * [text.text_embeds], -1)
        tokens: list[Tensor] = []
        blocks = self.transformer.transformer_blocks
        listener = blocks[min(EXAMINED_LAYER, len(blocks) - 1)].register_forward_hook(
            lambda _module, _inputs, outputs: tokens.append(outputs[1])
        )
        velocity = self.transformer(noisy, hidden, pooled, timesteps).sample
        listener.remove()
        answers = self.attributes(pooled).float().split([len(n) for n in NAMES.values()], 1)
        return velocity.float(), answers, self.cells(tokens[0]).float()


def load_student(out: Path, **size: int) -> Student:
    """A new student on the text encoder in a training folder."""
    return Student(CLIPTextModel.from_pretrained(out / "text_encoder", dtype=torch.float32), **size)


def sample_noise_levels(number: int) -> Tensor:
    """Shares of noise in (0, 1), shifted towards 1: there the text decides the picture."""
    uniform = torch.rand(number)
    return NOISE_SHIFT * uniform / (1 + (NOISE_SHIFT - 1) * uniform)


def corrupt(clean: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """The noisy latents and the velocity, noise less clean latents, that the student is to say."""
    noise, share = torch.randn_like(clean), levels.view(-1, 1, 1, 1)
    return torch.lerp(clean, noise, share), noise - clean


def examine(
    answers: tuple[Tensor, ...], cells: Tensor, captions: list[str], scenes: list[Scene]
) -> Tensor:
    """The examiner's loss over the scenes that were told; 0 if none was."""
    told = [i for i, words in enumerate(captions) if words]
    if not told:
        return cells.new_zeros(())
    asked = tuple(answer[told] for answer in answers)
    return examination_loss(asked, cells[told], [scenes[i] for i in told])[0]


def quick_attention(device: torch.device) -> AbstractContextManager[object]:
    """On short sequences a CPU's fused attention is slow backwards: 77 scenes a second, not 93."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def train(options: TrainingOptions, **size: int) -> None:
    """Reads `tokenizer`, `text_encoder` and the latents; adds `transformer`, `pooling_encoder`."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    out, device = options.out, torch.device(options.device)
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    batches = Batches(*read_latents(out))
    student = load_student(out, **size).to(device)
    learning = [(name, own) for name, own in student.named_parameters() if own.requires_grad]
    optimizer = Muon(
        learning, MUON_RATE, ADAM_RATE, ("pos_embed", "proj_out", "attributes", "cells")
    )
    run = Run("dit", options, student, optimizer, AVERAGE_DECAY)
    rng = random.Random(run.seed)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=options.autocast)
    for progress in run:
        latents, captions, weights, scenes = batches.draw(BATCH, progress, rng)
        levels = sample_noise_levels(BATCH).to(device)
        noisy, velocity = corrupt(latents.to(device), levels)
        ids = token_ids(tokenizer, captions).to(device)
        with quick_attention(device), autocast:
            said, answers, cells = student(noisy, 1000 * levels, ids)
        error = (said - velocity).square().mean(1)
        examination = examine(answers, cells, captions, scenes)
        loss = (error * weights.to(device)).mean() + EXAMINATION_WEIGHT * examination
        run.learn(loss, shown=error.mean())
        if run.step % 100 == 0:
            run.note(examination=round(examination.item(), 4))
    run.save()
    run.average.swap()
    student.transformer.save_pretrained(out / "transformer")
    student.text_encoder.save_pretrained(out / "pooling_encoder")


if __name__ == "__main__":
    train(parse_options(__doc__, minutes=85, can_autocast=True))
