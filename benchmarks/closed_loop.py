"""A model draws, another reads: is tiny-vlm fit to be a yardstick for what tiny-sd draws?

    python benchmarks/closed_loop.py --threads 2
    python benchmarks/closed_loop.py --prompts 8 --steps 4 --ways rendered,plain   # to try it

Held-out prompts are drawn. assets/recipes/checker.py reads every picture from its pixels, and
tiny-vlm is asked about it, about every attribute that the checker has and the prompt names. Three
things are compared: what the prompt says, what the checker reads, what the model answers. The row
"rendered" asks about the renderer's own pictures of the prompts: what is wrong there, is wrong
with the yardstick.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
from closed_loop_questions import KINDS, Question, ask_about
from PIL import Image
from rich.console import Console

from mindsd.assets.recipes.captions import caption
from mindsd.assets.recipes.checker import check, read_picture
from mindsd.assets.recipes.evaluate import held_out_scenes
from mindsd.assets.recipes.renderer import render
from mindsd.assets.recipes.scenes import Scene
from mindsd.config import PLAIN, SPEEDS, Acceleration
from mindsd.engine import Engine
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.language_model import load_language
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.text_to_image import TextToImage
from mindsd.pipelines.vision_chat import VisionChat, shown
from mindsd.tokenmerge.plan import TokenMerge

LONGEST = 40  # tokens of an answer
TOGETHER = 32  # pictures that are asked about at once
MEMORY = 256 * 2**20  # bytes of KV cache
MOST = 1000  # prompts: an engine has room for so many waiting requests
MERGE = TokenMerge(0.5, tokens=64)  # all that the largest attention of tiny-sd sees: 8 x 8


@dataclass(frozen=True)
class Way:
    """How pictures come to be and how they are read.

    Attributes:
        draw: what is left out in drawing; None for the renderer's own pictures.
        merge: share of image tokens that are merged before they are read.
        cache: dtype of the KV cache of the model that reads.
    """

    draw: Acceleration | None = PLAIN
    merge: float | None = None
    cache: str = "auto"


WAYS = {
    "rendered": Way(None),
    "plain": Way(),
    **{speed: Way(SPEEDS[speed]) for speed in ("quality", "balanced", "fast")},
    "token merge": Way(Acceleration(token_merge=MERGE)),
    "image_merge 0.5": Way(merge=0.5),
    "int8 KV cache": Way(cache="int8"),
}


@dataclass(frozen=True)
class Drawn:
    """Pictures, uint8 [128, 128, 3], and seconds for each; None where nothing was drawn."""

    pictures: list[np.ndarray]
    seconds: float | None


@dataclass
class Tally:
    """What was found about one way's pictures, one entry for each of them."""

    by_checker: list[bool] = field(default_factory=list)
    by_model: list[bool] = field(default_factory=list)
    agreed: dict[str, list[bool]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def take(self, right: bool, asked: Sequence[Question], answers: Sequence[str]) -> None:
        """One picture: whether the checker finds it right, and what the model answered."""
        pairs = list(zip(asked, answers, strict=True))
        self.by_checker.append(right)
        self.by_model.append(all(own.wanted in (None, said) for own, said in pairs))
        for own, said in pairs:
            if own.seen is not None:
                self.agreed[own.kind].append(own.seen == said)

    @property
    def same_verdict(self) -> list[bool]:
        """Whether both call a picture right, or both wrong."""
        return [a == b for a, b in zip(self.by_checker, self.by_model, strict=True)]


def draw(
    pipeline: TextToImage, scenes: Sequence[Scene], way: Way, steps: int, guidance: float
) -> Drawn:
    """A picture of every scene's caption, all asked for at once; scene i has seed i."""
    if way.draw is None:
        drawn = [render(scene, random.Random(seed)) for seed, scene in enumerate(scenes)]
        return Drawn(drawn, None)
    how = {"steps": steps, "guidance": guidance, "acceleration": way.draw}
    began = time.perf_counter()
    requests = [
        pipeline.submit(ImageParameters(caption(scene), seed=seed, **how))  # pyright: ignore
        for seed, scene in enumerate(scenes)
    ]
    drawn = [np.asarray(request.result()) for request in requests]
    return Drawn(drawn, (time.perf_counter() - began) / len(scenes))


def read(
    chat: VisionChat, scenes: Sequence[Scene], pictures: Sequence[np.ndarray], way: Way
) -> Tally:
    """Ask about pictures, many at once, and compare."""
    tally = Tally()
    for start in range(0, len(scenes), TOGETHER):
        requests = []
        for scene, pixels in zip(
            scenes[start : start + TOGETHER], pictures[start : start + TOGETHER], strict=True
        ):
            asked = list(ask_about(scene, read_picture(pixels)))
            image = Image.fromarray(pixels)
            how = {"temperature": 0, "max_tokens": LONGEST, "image_merge": way.merge}
            told = [chat.submit([shown(image, own.text)], **how) for own in asked]
            requests.append((check(scene, pixels)["all"], asked, told))
        for right, asked, told in requests:
            tally.take(right, asked, [request.result()[0].text for request in told])
    return tally


def as_markdown(rows: dict[str, tuple[Drawn, Tally]]) -> str:
    """The table: shares of pictures that are right, and of answers that are the checker's."""
    heads = ["way", "s a picture", "right by checker", "right by model", "same verdict"]
    heads += [f"agree: {kind}" for kind in KINDS]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for way, (drawn, tally) in rows.items():
        cells = [way, "-" if drawn.seconds is None else f"{drawn.seconds:.3f}"]
        shares = [tally.by_checker, tally.by_model, tally.same_verdict, *tally.agreed.values()]
        cells += [f"{statistics.fmean(hits):.3f}" if hits else "-" for hits in shares]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measure(options: argparse.Namespace, console: Console) -> dict[str, tuple[Drawn, Tally]]:
    """All ways on one engine; pictures that are drawn alike are drawn once."""
    scenes = held_out_scenes(options.prompts)
    known: dict[Acceleration | None, Drawn] = {}
    rows: dict[str, tuple[Drawn, Tally]] = {}
    with ExitStack() as stack:
        engine = stack.enter_context(Engine())
        pipeline = TextToImage(load_model("tiny-sd", options.device), engine)
        stack.enter_context(pipeline)
        chats: dict[str, VisionChat] = {}
        for name in options.ways:
            console.print(name, style="dim")
            way = WAYS[name]
            if way.cache not in chats:
                cache = CacheOptions(MEMORY, way.cache)
                loaded = load_language(options.model, options.device, options.dtype, cache)
                chats[way.cache] = stack.enter_context(VisionChat(loaded, engine))
            if way.draw not in known:
                draw(pipeline, scenes[:1], way, 1, options.guidance)  # what is done once
                known[way.draw] = draw(pipeline, scenes, way, options.steps, options.guidance)
            drawn = known[way.draw]
            rows[name] = drawn, read(chats[way.cache], scenes, drawn.pictures, way)
    return rows


def main() -> int:
    options = read_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = measure(options, Console(stderr=True))
    print(f"{options.prompts} held-out prompts, {options.steps} steps, guidance {options.guidance}")
    print(f"\n{as_markdown(rows)}\n")
    print(
        "Right: all that the prompt names. Agree: the model's answer is the checker's, letter for "
        "letter, where the checker has one."
    )
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="tiny-vlm", help="that reads: a known name or a folder")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--ways", type=lambda x: x.split(","), default=list(WAYS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", help="of the model that reads")
    parser.add_argument("--threads", type=int, help="torch threads (default: torch's choice)")
    options = parser.parse_args()
    if unknown := [way for way in options.ways if way not in WAYS]:
        parser.error(f"unknown way {unknown[0]!r}; choose some of {', '.join(WAYS)}")
    if not 1 <= options.prompts <= MOST:
        parser.error(f"prompts are 1 to {MOST}, not {options.prompts}")
    return options


if __name__ == "__main__":
    sys.exit(main())
