"""Who vision.py asks about pictures: mindsd, and transformers' `generate`.

Clocks start before a picture is processed, for both.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from language_worker import GREEDY, Times
from PIL import Image
from transformers import GenerationConfig
from vision_job import Job

from mindsd.aside import aside
from mindsd.assets.recipes.evaluate import held_out_scenes
from mindsd.assets.recipes.renderer import render
from mindsd.assets.recipes.vlm_evaluate import LONGEST_ANSWER
from mindsd.pipelines.cache_options import CacheOptions
from mindsd.pipelines.vision_chat import VisionChat, shown
from mindsd.request import Done, Failed, Piece, follow
from mindsd.tokenmerge.visual import VisualMerge
from mindsd.weights.language import find_language_model
from mindsd.weights.loading import load_language_model
from mindsd.weights.processor import load_processor

MEMORY = 256 * 2**20  # bytes of KV cache: more than is asked here ever takes


@dataclass(frozen=True)
class Told:
    """One answer; `first` and `done` in seconds since it was asked for."""

    first: float
    done: float
    tokens: list[int]
    margins: list[float] = field(default_factory=list)


class Ours:
    """mindsd."""

    def __init__(self, job: Job):
        self.job, self._asked = job, 0
        cache = CacheOptions(memory=MEMORY)
        if job.caches == "none":
            cache = replace(cache, images=0)
        options: dict[str, Any] = {"dtype": job.dtype, "cache": cache, "device": "cpu"}
        self.chat = VisionChat.load(job.folder, speculation="none", **options)
        self.merge = VisualMerge.parse(job.merge) if job.merge else None

    def ask(self, pictures: Sequence[Image.Image], question: str) -> list[Told]:
        """All at once."""
        if self.job.caches == "seen":
            for lane in self.chat.model.runner.lanes:  # nothing runs: the engine is idle
                lane.pool.forget()
        began = time.perf_counter()
        requests = []
        for picture in pictures:
            self._asked += 1
            salt = f"user {self._asked}" if self.job.caches == "none" else ""
            how: dict[str, Any] = {"salt": salt, "image_merge": self.merge, **GREEDY}
            asked = [shown(picture, question)]
            requests.append(self.chat.submit(asked, max_tokens=self.job.new, **how))
        first, done = {}, {}
        for request, event in follow(requests):
            now = time.perf_counter() - began
            if isinstance(event, Piece):
                first.setdefault(request, now)
            elif isinstance(event, Done | Failed):
                done[request] = now
        answers = [request.result()[0] for request in requests]
        return [
            Told(first[request], done[request], list(answer.tokens))
            for request, answer in zip(requests, answers, strict=True)
        ]

    def answer(self, picture: Any, texts: list[str]) -> list[str]:
        """As of the recipe's `Answerer`: answers to several questions about uint8 pixels."""
        image = Image.fromarray(picture)
        how: dict[str, Any] = {"temperature": 0, "image_merge": self.merge}
        requests = [
            self.chat.submit([shown(image, text)], max_tokens=LONGEST_ANSWER, **how)
            for text in texts
        ]
        return [request.result()[0].text for request in requests]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.chat.close()


class Theirs:
    """transformers' `generate`: one after the other, or one padded batch."""

    def __init__(self, job: Job):
        self.job, files = job, find_language_model(job.folder)
        kind = getattr(torch, job.dtype)
        loaded: Any = aside(lambda: load_language_model(files, kind, "cpu"))
        self.model, self.tokenizer = loaded
        self.tokenizer.padding_side = "left"
        self.processor: Any = load_processor(files, self.tokenizer)
        self.image = self.model.config.image_token_id
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=job.new,
            pad_token_id=self.tokenizer.pad_token_id,
            suppress_tokens=[self.image],  # mindsd says none, for nothing could be seen there
            output_logits=True,
            return_dict_in_generate=True,
        )

    def ask(self, pictures: Sequence[Image.Image], question: str) -> list[Told]:
        """All asked for at once; those that are not in a batch wait for each other."""
        began, told = time.perf_counter(), []
        groups = [pictures] if self.job.way == "batch" else [[picture] for picture in pictures]
        for group in groups:
            told += self._generate(group, question, began)
        return told

    @torch.inference_mode()
    def _generate(self, pictures: Any, question: str, began: float) -> list[Told]:
        how: dict[str, Any] = {"add_generation_prompt": True, "tokenize": False}
        texts = [
            self.tokenizer.apply_chat_template([shown(picture, question)], **how)
            for picture in pictures
        ]
        given: dict[str, Any] = {"text": texts, "images": list(pictures), "padding": True}
        inputs, times = self.processor(**given, return_tensors="pt"), Times()
        out = self.model.generate(**inputs, streamer=times)
        logits = torch.stack(out.logits, 1).float()  # [B, new, words]
        logits[..., self.image] = -torch.inf
        best = logits.topk(2).values
        margins = (best[..., 0] - best[..., 1]).tolist()
        words = out.sequences[:, inputs["input_ids"].shape[1] :].tolist()
        first, done = times.at[1] - began, times.at[-1] - began
        return [Told(first, done, *own) for own in zip(words, margins, strict=True)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def asked(job: Job) -> Ours | Theirs:
    return Ours(job) if job.way == "mindsd" else Theirs(job)


def pictures(number: int, side: int) -> list[Image.Image]:
    """Held-out scenes, each unlike the others."""
    scenes = enumerate(held_out_scenes(number))
    drawn = [Image.fromarray(render(scene, random.Random(place))) for place, scene in scenes]
    return [picture.resize((side, side), Image.Resampling.BICUBIC) for picture in drawn]
