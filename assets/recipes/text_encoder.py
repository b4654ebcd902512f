"""Training the text encoder on words alone: say what the scene shows, and where.

Two examiners read its output the way the denoiser will: one pools it (TextTimeEmbedding, the
denoiser's own global door for text) and names every attribute, one lets an 8x8 grid of queries
attend to the tokens and names colour and shape of each cell. The pooling is kept: the denoiser
starts from it.
"""

# transformers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportCallIssue=false

import random

import torch
from diffusers.models.embeddings import TextTimeEmbedding
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .captions import caption
from .muon import Muon
from .scenes import COLORS, POSITIONS, RELATIONS, RESOLUTION, SHAPES, SIZES, Scene, sample_scene
from .tokenizer import build_tokenizer
from .training import Run, TrainingOptions, parse_options

WIDTH, LAYERS, HEADS = 128, 2, 4
TIME_WIDTH, POOL_HEADS = 256, 8
GRID = 8
BATCH = 64
MUON_RATE, ADAM_RATE = 0.01, 2e-3
NAMES: dict[str, tuple[str | None, ...]] = {
    "background": tuple(COLORS),
    "number": ("1", "2", "3", "4"),
    "position": (None, *POSITIONS),
    "relation": (None, *RELATIONS),
    "first color": tuple(COLORS),
    "first shape": SHAPES,
    "first size": tuple(SIZES),
    "second color": (None, *COLORS),
    "second shape": (None, *SHAPES),
}


def attributes(scene: Scene) -> list[int]:
    """The scene's answer to each question of NAMES, as an index into its names."""
    first, second = scene.things[0], scene.things[1] if len(scene.things) > 1 else None
    answers = (
        scene.background,
        str(len(scene.things)),
        scene.position,
        scene.relation,
        first.color,
        first.shape,
        first.size,
        second.color if second else None,
        second.shape if second else None,
    )
    return [names.index(a) for names, a in zip(NAMES.values(), answers, strict=True)]


def layout(scene: Scene) -> tuple[Tensor, Tensor]:
    """Colour and shape (0 for none) of the 8x8 cells, two int64 (8, 8) tensors."""
    colors = torch.full((GRID, GRID), list(COLORS).index(scene.background))
    shapes = torch.zeros(GRID, GRID, dtype=torch.int64)
    centers = (torch.arange(GRID) + 0.5) * RESOLUTION / GRID
    for thing in scene.things:
        inside_y = (centers - thing.y).abs() < thing.extent / 2
        inside = inside_y[:, None] & ((centers - thing.x).abs() < thing.extent / 2)
        colors[inside] = list(COLORS).index(thing.color)
        shapes[inside] = 1 + SHAPES.index(thing.shape)
    return colors, shapes


class Examiner(nn.Module):
    """Names attributes and layout from the text encoder's output (batch, tokens, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.pooling = TextTimeEmbedding(WIDTH, TIME_WIDTH, num_heads=POOL_HEADS)
        self.attributes = nn.Linear(TIME_WIDTH, sum(map(len, NAMES.values())))
        self.queries = nn.Parameter(0.1 * torch.randn(GRID * GRID, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.cells = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, len(COLORS) + 1 + len(SHAPES))
        )

    def forward(self, hidden: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Logits per attribute, and (batch, 64, colours + 1 + shapes) logits per cell."""
        answers = self.attributes(self.pooling(hidden)).split([len(n) for n in NAMES.values()], 1)
        queries = self.queries.expand(len(hidden), -1, -1)
        seen, _ = self.attention(queries, hidden, hidden, need_weights=False)
        return answers, self.cells(seen)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager",
    )
    encoder = CLIPTextModel(config)
    nn.init.normal_(encoder.get_input_embeddings().weight, std=0.3)
    return encoder


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """int64 (batch, 32), padded as StableDiffusionPipeline pads."""
    length = tokenizer.model_max_length
    return tokenizer(
        captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids


def examination_loss(
    answers: tuple[Tensor, ...], cells: Tensor, scenes: list[Scene]
) -> tuple[Tensor, float]:
    """Mean cross-entropy of attributes and cells, and the share of attributes that are right."""
    right = torch.tensor([attributes(scene) for scene in scenes], device=cells.device).T
    asked = [F.cross_entropy(a, r) for a, r in zip(answers, right, strict=True)]
    layouts = torch.stack([torch.stack(layout(scene)) for scene in scenes]).to(cells.device)
    color_logits, shape_logits = cells.mT.split([len(COLORS), 1 + len(SHAPES)], 1)
    colors, shapes = layouts.flatten(2).unbind(1)
    drawn = F.cross_entropy(color_logits, colors) + F.cross_entropy(shape_logits, shapes)
    hits = [(a.argmax(1) == r).float().mean() for a, r in zip(answers, right, strict=True)]
    return torch.stack(asked).mean() + drawn, torch.stack(hits).mean().item()


def train(options: TrainingOptions) -> None:
    """Writes `tokenizer`, `text_encoder` and the pooling (`pooling.checkpoint`) to options.out."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    tokenizer = build_tokenizer()
    encoder, examiner = build_text_encoder(tokenizer), Examiner()
    model = nn.ModuleDict({"encoder": encoder, "examiner": examiner}).to(options.device)
    optimizer = Muon(model.named_parameters(), MUON_RATE, ADAM_RATE, ("embedding", "queries"))
    run = Run("text_encoder", options, model, optimizer, average_decay=0.99)
    rng = random.Random(run.seed)
    for _ in run:
        scenes = [sample_scene(rng, held_out=False) for _ in range(BATCH)]
        ids = token_ids(tokenizer, [caption(scene, rng) for scene in scenes]).to(options.device)
        loss, right = examination_loss(*examiner(encoder(ids)[0]), scenes)
        run.learn(loss)
        if run.step % 100 == 0:
            run.note(right=round(right, 4))
    run.average.swap()
    tokenizer.save_pretrained(options.out / "tokenizer")
    encoder.save_pretrained(options.out / "text_encoder")
    torch.save(examiner.pooling.state_dict(), options.out / "pooling.checkpoint")


if __name__ == "__main__":
    train(parse_options(__doc__, minutes=5))
