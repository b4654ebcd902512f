"""Token batches for training tiny-vlm: questions about pictures, and what to answer.

A sample is one picture with either several independent questions, packed behind one image prefix so
that no question sees another, or a conversation whose turns see all earlier ones. Tokens are those
of the chat template.
"""

# transformers annotates less than it takes and returns.
# pyright: reportArgumentType=false

import random
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import Qwen2Tokenizer

from .questions import Question
from .vlm_parts import END, GRID, IMAGE, MERGE, SYSTEM_MESSAGES, VISION_END, VISION_START

IGNORED = -100
LENGTH_STEP = 32


@dataclass
class Sample:
    """The tokens of a sample: five lists in step.

    `labels` are the ids to predict. `weights` are theirs in the loss: 1/sqrt(tokens of the answer),
    or captions would be most of it. `positions` are (time, height, width). Segment 0 is seen by
    all, any other segment only by itself.
    """

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    positions: list[tuple[int, int, int]] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)

    def add(self, ids: list[int], start: int, segment: int = 0, learn: bool = False) -> int:
        """Append text at positions from `start` on; returns the next free position."""
        self.ids += ids
        self.labels += ids if learn else [IGNORED] * len(ids)
        self.weights += [len(ids) ** -0.5 if learn else 0.0] * len(ids)
        self.positions += [(p, p, p) for p in range(start, start + len(ids))]
        self.segments += [segment] * len(ids)
        return start + len(ids)

    def add_image(self, image_token: int, start: int) -> int:
        """Append an image: its rows and columns count on from `start` (M-RoPE)."""
        side = GRID // MERGE
        cells = [(start, start + y, start + x) for y in range(side) for x in range(side)]
        self.ids += [image_token] * len(cells)
        self.labels += [IGNORED] * len(cells)
        self.weights += [0.0] * len(cells)
        self.positions += cells
        self.segments += [0] * len(cells)
        return start + side


@dataclass(frozen=True)
class Batch:
    """Samples padded to one length: ids, labels and weights (batch, tokens).

    `positions` are (3, batch, tokens); `mask` (batch, 1, tokens, tokens) is added to the attention
    scores.
    """

    ids: Tensor
    labels: Tensor
    weights: Tensor
    positions: Tensor
    mask: Tensor

    def to(self, device: str | torch.device) -> "Batch":
        parts = (self.ids, self.labels, self.weights, self.positions, self.mask)
        return Batch(*(part.to(device) for part in parts))


class Packer:
    """Turns questions into samples with the chat template's tokens."""

    def __init__(self, tokenizer: Qwen2Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.image = tokenizer.convert_tokens_to_ids(IMAGE)
        self.pad = tokenizer.pad_token_id
        self.known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self.known:
            self.known[text] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self.known[text]

    def start(self, sample: Sample, system: str | None = None, question: str = "") -> int:
        """Everything up to the image's end; a question may stand before the image."""
        at = 0
        if system is not None:
            at = sample.add(self.ids(f"<|im_start|>system\n{system}{END}\n"), at)
        at = sample.add(self.ids("<|im_start|>user\n"), at)
        at = sample.add(self.ids(question), at) if question else at
        at = sample.add_image(self.image, sample.add(self.ids(VISION_START), at))
        return sample.add(self.ids(VISION_END), at)

    def answer(self, sample: Sample, answer: str, at: int, segment: int = 0) -> int:
        """Close the user's turn and give the answer, which is to be learned."""
        at = sample.add(self.ids(f"{END}\n<|im_start|>assistant\n"), at, segment)
        return sample.add(self.ids(answer) + self.ids(END), at, segment, learn=True)

    def independent(self, asked: list[Question]) -> Sample:
        """Each of `asked` as the first and only turn after the image."""
        sample = Sample()
        start = self.start(sample)
        for segment, question in enumerate(asked, 1):
            at = sample.add(self.ids(question.text), start, segment)
            self.answer(sample, question.answer, at, segment)
        return sample

    def conversation(
        self, asked: list[Question], system: str | None = None, text_first: bool = False
    ) -> Sample:
        """All of `asked` one after the other, after a system message if one is given."""
        sample, first = Sample(), asked[0]
        at = self.start(sample, system, first.text if text_first else "")
        at = at if text_first else sample.add(self.ids(first.text), at)
        at = self.answer(sample, first.answer, at)
        for question in asked[1:]:
            at = sample.add(self.ids("\n<|im_start|>user\n"), at)
            at = self.answer(sample, question.answer, sample.add(self.ids(question.text), at))
        return sample

    def random_conversation(self, asked: list[Question], rng: random.Random) -> Sample:
        system = rng.choice(SYSTEM_MESSAGES) if rng.random() < 0.3 else None
        return self.conversation(asked, system, text_first=rng.random() < 0.5)

    def batch(self, samples: list[Sample]) -> Batch:
        """Pad samples to the next length that is a multiple of LENGTH_STEP."""
        # Few different lengths, because compiled layers are compiled for each.
        longest = -(-max(len(s.ids) for s in samples) // LENGTH_STEP) * LENGTH_STEP

        def padded(rows: list[list], fill: object) -> Tensor:
            return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])

        segments = padded([s.segments for s in samples], -1)
        visible = (segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0)
        visible &= torch.ones(longest, longest, dtype=torch.bool).tril()
        return Batch(
            padded([s.ids for s in samples], self.pad),
            padded([s.labels for s in samples], IGNORED),
            padded([s.weights for s in samples], 0.0),
            padded([s.positions for s in samples], (0, 0, 0)).permute(2, 0, 1),
            torch.zeros(visible.shape).masked_fill(~visible, float("-inf"))[:, None],
        )
