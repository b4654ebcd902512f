"""The yardstick for tiny-vlm: does it answer questions about held-out scenes?

Real greedy generation through the stock classes, in float32. An answer is right if it is the right
one letter for letter. With --drawn, the pictures are those that a text-to-image model draws of the
same prompts, and the right answers are those for what checker.py reads in them.
"""

# transformers annotates less than it takes and returns.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from .checker import Reading, check, read_picture
from .descriptions import NUMBERS, OPPOSITES
from .evaluate import draw, held_out_scenes
from .questions import KINDS, Question, questions
from .renderer import render
from .scenes import COLORS, SHAPES, Scene, Thing
from .vlm_parts import IMAGE

DETAILS = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "count": NUMBERS,
    "relation": (*OPPOSITES, "nothing"),
}
LONGEST_ANSWER = 40


@dataclass(frozen=True)
class Answerer:
    """A model with what it needs to be asked."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    images: Qwen2VLImageProcessorPil

    @classmethod
    def load(cls, folder: Path) -> "Answerer":
        return cls(
            AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval(),
            AutoTokenizer.from_pretrained(folder, padding_side="left"),
            Qwen2VLImageProcessorPil.from_pretrained(folder),
        )

    def prompt(self, text: str, image_tokens: int) -> str:
        content = [{"type": "image"}, {"type": "text", "text": text}]
        said = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return str(said).replace(IMAGE, IMAGE * image_tokens)

    @torch.no_grad()
    def answer(self, picture: np.ndarray, texts: list[str]) -> list[str]:
        """Answers to several questions about one uint8 (height, width, 3) picture."""
        image = self.images(images=[Image.fromarray(picture)] * len(texts), return_tensors="pt")
        tokens = int(image["image_grid_thw"][0].prod()) // self.images.merge_size**2
        prompts = [self.prompt(text, tokens) for text in texts]
        batch = self.tokenizer(prompts, return_tensors="pt", padding=True)
        image_id = self.tokenizer.convert_tokens_to_ids(IMAGE)
        said = self.model.generate(
            **batch,
            **image,
            mm_token_type_ids=(batch.input_ids == image_id).long(),
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
        )
        return self.tokenizer.batch_decode(
            said[:, batch.input_ids.shape[1] :], skip_special_tokens=True
        )


def as_scene(reading: Reading) -> Scene:
    """What was read in a picture as a scene, upper and left things first.

    Only single things differ in size in these scenes.
    """
    alone = len(reading.things) == 1
    things = [
        Thing(s.shape, s.color, s.size if alone else "regular", round(s.x), round(s.y), s.extent)
        for s in reading.things
    ]
    return Scene("read", reading.background, True, tuple(sorted(things, key=lambda t: (t.y, t.x))))


def rendered(number: int) -> Iterator[tuple[Scene, np.ndarray]]:
    """Held-out scenes and their pictures."""
    for index, scene in enumerate(held_out_scenes(number)):
        yield scene, render(scene, random.Random(index))


def drawn(number: int, folder: Path) -> Iterator[tuple[Scene, np.ndarray]]:
    """What a text-to-image model draws of held-out prompts, where it draws them right."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    scenes = held_out_scenes(number)
    for scene, picture in zip(scenes, draw(pipeline, scenes, 20, 3.0), strict=True):
        if check(scene, picture)["all"]:
            yield as_scene(read_picture(picture)), picture


def detail(question: Question) -> str | None:
    """The row of a question within its kind, for the kinds of DETAILS."""
    words = question.text.rstrip("?").split()
    answer = question.answer.split()
    for name in DETAILS.get(question.kind, ()):
        said = answer[0] if question.kind != "shape" else question.answer
        if said in (name, name + "s", name + "es") or (
            question.kind == "relation" and said != "nothing" and name.split()[0] in (*words, said)
        ):
            return name
    return None


def score(
    answerer: Answerer, pictures: Iterator[tuple[Scene, np.ndarray]]
) -> dict[str, list[bool]]:
    """Right or wrong for every question, by kind and by detail."""
    rows = [*KINDS] + [f"{kind}: {name}" for kind, names in DETAILS.items() for name in names]
    right: dict[str, list[bool]] = {row: [] for row in rows}
    rng = random.Random(0)
    for scene, picture in pictures:
        asked = questions(scene, rng, plain=True)
        answers = answerer.answer(picture, [question.text for question in asked])
        for question, answer in zip(asked, answers, strict=True):
            hit = answer == question.answer
            right[question.kind].append(hit)
            if (name := detail(question)) is not None:
                right[f"{question.kind}: {name}"].append(hit)
    return right


def as_markdown(right: dict[str, list[bool]]) -> str:
    lines = ["| questions about | asked | right |", "| --- | --- | --- |"]
    every = [hit for kind in KINDS for hit in right[kind]]
    for row, hits in {**right, "everything": every}.items():
        if hits:
            lines.append(f"| {row} | {len(hits)} | {sum(hits) / len(hits):.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--drawn", type=Path, help="a text-to-image model that draws the pictures")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    pictures = drawn(options.scenes, options.drawn) if options.drawn else rendered(options.scenes)
    print(as_markdown(score(Answerer.load(options.model), pictures)))


if __name__ == "__main__":
    main()
