"""The yardstick: does the model draw what held-out prompts say?

Every prompt is a meaning that training never saw; every picture is read back by checker.py.
"""

# diffusers annotates less than it takes and returns.
# pyright: reportAttributeAccessIssue=false

import argparse
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from mindsd.weights.folder import find_model

from .captions import caption
from .checker import check
from .scenes import RESOLUTION, TASKS, Scene, sample_scene

ATTRIBUTES = (
    "background",
    "color",
    "shape",
    "count",
    "binding",
    "size",
    "position",
    "relation",
    "all",
)
BATCH = 25
SEED = 7_000_000
GRID_COLUMNS, GRID_CELL = 8, RESOLUTION + 2


def held_out_scenes(number: int, task: str | None = None) -> list[Scene]:
    """The first `number` held-out scenes; the same on every call."""
    rng = random.Random(SEED)
    return [sample_scene(rng, task, held_out=True) for _ in range(number)]


@torch.no_grad()
def draw(
    pipeline: Any, scenes: list[Scene], steps: int, guidance: float, **options: Any
) -> Iterator[np.ndarray]:
    """Pictures of the scenes' plain captions, uint8 (128, 128, 3); scene i has seed i.

    Args:
        pipeline: one of diffusers' text-to-image pipelines.
        options: further arguments of its call.
    """
    pipeline.set_progress_bar_config(disable=True)
    for start in range(0, len(scenes), BATCH):
        batch = scenes[start : start + BATCH]
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(batch))]
        pictures = pipeline(
            [caption(scene) for scene in batch],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            output_type="np",
            **options,
        ).images
        yield from (np.asarray(pictures) * 255).round().astype(np.uint8)


def score(scenes: list[Scene], pictures: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Share of right answers per task, and in all, for each attribute the prompts name."""
    answers = [check(scene, picture) for scene, picture in zip(scenes, pictures, strict=True)]
    table = {}
    for task in (*TASKS, "every task"):
        rows = [a for a, s in zip(answers, scenes, strict=True) if task in (s.task, "every task")]
        named = {k: [r[k] for r in rows if k in r] for k in ATTRIBUTES}
        shares = {k: round(float(np.mean(v)), 3) for k, v in named.items() if v}
        table[task] = {"prompts": len(rows), **shares}
    return table


def as_markdown(table: dict[str, dict[str, float]]) -> str:
    columns = ("prompts", *ATTRIBUTES)
    lines = ["| task | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for task, shares in table.items():
        cells = [str(shares.get(column, "")) for column in columns]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def save_grid(pictures: list[np.ndarray], path: Path) -> None:
    rows = -(-len(pictures) // GRID_COLUMNS)
    grid = Image.new("RGB", (GRID_COLUMNS * GRID_CELL, rows * GRID_CELL))
    for i, picture in enumerate(pictures):
        corner = (i % GRID_COLUMNS * GRID_CELL, i // GRID_COLUMNS * GRID_CELL)
        grid.paste(Image.fromarray(picture), corner)
    grid.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--task", choices=TASKS, help="prompts of one task only")
    parser.add_argument("--steps", type=int, help="the folder's own number, else 20")
    parser.add_argument("--guidance", type=float, help="the folder's own, else 3")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path, help="write the scores here as well")
    parser.add_argument("--grid", type=Path, help="write a PNG of the pictures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = find_model(options.model)
    own, absent = folder.defaults, dict.fromkeys(folder.absent)
    pipeline = DiffusionPipeline.from_pretrained(folder.path, dtype=torch.float32, **absent)
    steps = options.steps or own.steps or 20
    guidance = next(g for g in (options.guidance, own.guidance, 3.0) if g is not None)
    scenes = held_out_scenes(options.prompts, options.task)
    pictures = list(draw(pipeline.to(options.device), scenes, steps, guidance, **own.options))
    table = score(scenes, pictures)
    print(f"{steps} steps, guidance {guidance}\n\n{as_markdown(table)}")
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n")
    if options.grid:
        save_grid(pictures, options.grid)


if __name__ == "__main__":
    main()
