"""Training tiny-vlm: answering questions about pictures, from nothing.

A head that only training has names colour and shape of the thing over each patch: with it the
vision half learns in half the time. Reads the autoencoder of tiny-sd, so that the pictures of a
diffusion model look familiar.
"""

# transformers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

import random
import shutil
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen3VLForConditionalGeneration

from .evaluate import held_out_scenes
from .muon import Muon
from .questions import KINDS, choose_questions, questions
from .renderer import render
from .scenes import COLORS, SHAPES, Scene
from .training import Run, TrainingOptions, parse_options
from .vae import to_model
from .vlm_batches import IGNORED, Batch, Packer
from .vlm_parts import (
    GRID,
    LAYERS,
    VISION_WIDTH,
    WIDTH,
    build_model,
    build_tokenizer,
    to_patches,
)
from .vlm_pictures import Pictures, patch_labels, redraw
from .vlm_shortcuts import accelerate, compile_layers

BATCH, QUESTIONS = 32, 8
CONVERSATIONS = 0.3
MUON_RATE, ADAM_RATE = 0.01, 1e-3
AVERAGE_DECAY = 0.998
REDRAWN, REDRAWN_SHARE = 2000, 0.2
AUTOENCODER = Path(__file__).parents[1] / "tiny-sd" / "vae"
NOT_MUON = ("embed_tokens", "pos_embed", "lm_head", "cells")
EVALUATION_SECONDS, EVALUATION_SCENES = 600, 64


class Learner(nn.Module):
    """The model with the head over patches that only training has."""

    def __init__(self, model: Qwen3VLForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        width = model.model.visual.config.hidden_size
        self.cells = nn.Linear(width, 1 + len(COLORS) + 1 + len(SHAPES))

    def forward(self, pixels: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (answer tokens, vocabulary), the tokens they are to say, and (patches, names).

        Pixels are float32 (batch, 3, 128, 128) in -1..1.
        """
        grid = torch.tensor([[1, GRID, GRID]]).expand(len(pixels), 3).to(pixels.device)
        body = self.model.model
        seen = body.get_image_features(to_patches(pixels), grid)
        hidden = body(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            mm_encoder_outputs={"image": seen},
            use_cache=False,
        ).last_hidden_state
        learned = batch.labels[:, 1:] != IGNORED
        logits = self.model.lm_head(hidden[:, :-1][learned])
        cells = self.cells(seen.last_hidden_state)
        return logits.float(), batch.labels[:, 1:][learned], cells.float()


def draw_batch(
    pictures: Pictures, packer: Packer, rng: random.Random
) -> tuple[list[Scene], Tensor, Batch]:
    """BATCH scenes, their pictures as `Learner` takes them, and questions about them."""
    scenes, pixels = pictures.draw(BATCH, rng)
    samples = []
    for scene in scenes:
        asked = choose_questions(scene, rng, QUESTIONS)
        talk = rng.random() < CONVERSATIONS
        samples.append(
            packer.random_conversation(asked, rng) if talk else packer.independent(asked)
        )
    return scenes, pixels, packer.batch(samples)


def losses(
    learner: Learner, pixels: Tensor, batch: Batch, scenes: list[Scene]
) -> tuple[Tensor, Tensor]:
    """The loss of the answers and that of the cells."""
    logits, wanted, cells = learner(pixels, batch)
    colors, shapes = (labels.to(cells.device) for labels in patch_labels(scenes))
    color_logits, shape_logits = cells.split([1 + len(COLORS), 1 + len(SHAPES)], 1)
    cell_loss = F.cross_entropy(color_logits, colors) + F.cross_entropy(shape_logits, shapes)
    weights = batch.weights[:, 1:][batch.labels[:, 1:] != IGNORED]
    errors = F.cross_entropy(logits, wanted, reduction="none")
    return (errors * weights).sum() / weights.sum(), cell_loss


@torch.no_grad()
@torch.compiler.set_stance("force_eager")
def shares_right(learner: Learner, packer: Packer, scenes: list[Scene]) -> dict[str, float]:
    """Share of answers right as a whole, by kind, if each token is told those before it.

    Greedy generation is right exactly when every token is the likeliest.
    """
    rng, device = random.Random(0), learner.cells.weight.device
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for scene in scenes:
        asked = questions(scene, rng, plain=True)
        batch = packer.batch([packer.independent(asked)])
        pixels = to_model(torch.from_numpy(render(scene, rng)).permute(2, 0, 1)[None])
        logits, wanted, _ = learner(pixels.to(device), batch.to(device))
        hits = (logits.argmax(-1) == wanted).split([len(packer.ids(q.answer)) + 1 for q in asked])
        for question, hit in zip(asked, hits, strict=True):
            right[question.kind].append(bool(hit.all()))
    shares = {kind: round(sum(hits) / max(len(hits), 1), 3) for kind, hits in right.items()}
    every = sum(right.values(), [])
    return {**shares, "all": round(sum(every) / len(every), 3)}


def train(
    options: TrainingOptions,
    width: int = WIDTH,
    vision_width: int = VISION_WIDTH,
    layers: int = LAYERS,
    compiled: bool = False,
) -> None:
    """Writes `vlm`, in float32, to options.out.

    `compiled` makes a step a fifth faster; it needs a C++ compiler on a CPU.
    """
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    packer = Packer(build_tokenizer())
    learner = Learner(build_model(packer.tokenizer, width, vision_width, layers))
    learner = learner.to(options.device)
    learner.model.set_attn_implementation("eager")
    accelerate(learner.model)
    if compiled:
        compile_layers(learner.model)
    pictures = Pictures(redraw(AUTOENCODER, REDRAWN, seed=2), REDRAWN_SHARE)
    optimizer = Muon(learner.named_parameters(), MUON_RATE, ADAM_RATE, NOT_MUON)
    run = Run("vlm", options, learner, optimizer, AVERAGE_DECAY)
    rng, evaluated = random.Random(run.seed), time.monotonic()
    for _ in run:
        scenes, pixels, batch = draw_batch(pictures, packer, rng)
        pixels, batch = pixels.to(options.device), batch.to(options.device)
        with torch.autocast(learner.cells.weight.device.type, torch.bfloat16, options.autocast):
            answers, cells = losses(learner, pixels, batch, scenes)
        run.learn(answers + cells, shown=answers)
        if time.monotonic() - evaluated > EVALUATION_SECONDS:
            run.average.swap()
            run.note(right=shares_right(learner, packer, held_out_scenes(EVALUATION_SCENES)))
            run.average.swap()
            evaluated = time.monotonic()
    run.save()
    run.average.swap()
    learner.model.save_pretrained(options.out / "vlm")


if __name__ == "__main__":
    options = parse_options(__doc__, minutes=120, can_autocast=True)
    train(options, compiled=shutil.which("g++") is not None)
