"""One measurement of vision.py, in a process of its own; its last line tells it as JSON."""

from __future__ import annotations

import json
import statistics
import sys
import warnings
from dataclasses import asdict
from typing import Any

import torch
import transformers
from vision_asked import Ours, Told, asked, pictures
from vision_beside import beside
from vision_job import TOGETHER, Found, Job
from vision_shape import save

from mindsd.assets.recipes.questions import KINDS
from mindsd.assets.recipes.vlm_evaluate import rendered, score
from mindsd.pipelines.vision_chat import DESCRIBE

FOLLOW_UP = "How many things are there?"


def main() -> None:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    print(json.dumps(asdict(measure(Job(**json.loads(sys.argv[1]))))))


def measure(job: Job) -> Found:
    """What a job asks for."""
    torch.set_num_threads(job.threads)
    return MEASURES[job.case](job)


def question(job: Job) -> Found:
    """One after the other, each about a picture that was not shown before."""
    warm, *fresh = pictures(1 + job.pictures, job.side)
    with asked(job) as model:
        model.ask([warm], DESCRIBE)
        told = [model.ask([picture], DESCRIBE)[0] for picture in fresh]
    return _found(told, sum(own.done for own in told))


def eight(job: Job) -> Found:
    warm, *fresh = pictures(1 + TOGETHER, job.side)
    with asked(job) as model:
        model.ask([warm] * TOGETHER, DESCRIBE)
        told = model.ask(fresh, DESCRIBE)
    return _found(told, max(own.done for own in told))


def _found(told: list[Told], seconds: float) -> Found:
    first = statistics.median(own.first for own in told)
    rate = sum(len(own.tokens) for own in told) / seconds
    words, margins = [own.tokens for own in told], [own.margins for own in told]
    return Found({"first": first, "rate": rate}, words, margins)


def again(job: Job) -> Found:
    """Two questions about each picture; medians over the pictures."""
    warm, *fresh = pictures(1 + job.pictures, job.side)
    with asked(job) as model:
        for text in (DESCRIBE, FOLLOW_UP):
            model.ask([warm], text)
        told = [model.ask([own], text)[0] for own in fresh for text in (DESCRIBE, FOLLOW_UP)]
    first, second = (statistics.median(own.first for own in told[i::2]) for i in (0, 1))
    numbers = {"first": first, "second": second, "faster": first / second}
    return Found(numbers, [own.tokens for own in told], [own.margins for own in told])


def tokens(job: Job) -> Found:
    """Seconds to the first token about a fresh picture, and what it takes in the KV cache."""
    warm, *fresh = pictures(1 + job.pictures, job.side)
    with Ours(job) as model:
        model.ask([warm], DESCRIBE)
        first = statistics.median(model.ask([own], DESCRIBE)[0].first for own in fresh)
        vision, packed = model.chat.model.vision, model.chat.model.packed
        if vision is None or packed is None:
            raise RuntimeError(f"{job.folder} does not run packed: {model.chat.model.why_plain}")
        image = vision.read(warm).tokens
        left = model.merge.left(image) if model.merge else image
        return Found({"first": first, "tokens": left, "bytes": left * packed.token_bytes["auto"]})


def accuracy(job: Job) -> Found:
    """Share of answers that are right letter for letter, as vlm_evaluate.py has it."""
    with Ours(job) as model:
        answerer: Any = model
        right = score(answerer, rendered(job.scenes))
    hits = [hit for kind in KINDS for hit in right[kind]]
    return Found({"right": sum(hits) / len(hits), "asked": len(hits)})


MEASURES = {
    "save": save,
    "question": question,
    "eight": eight,
    "again": again,
    "tokens": tokens,
    "accuracy": accuracy,
    "beside": beside,
}

if __name__ == "__main__":
    main()
