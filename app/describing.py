"""A batch of pictures, each described when its turn comes.

Imports torch and transformers; the commands import this file when they run.
"""

from __future__ import annotations

from typing import Any, Protocol

from mindsd.pipelines.text_result import TextResult
from mindsd.pipelines.vision_chat import DESCRIBE, VisionChat, shown
from mindsd.request import Request

from .answer_json import answer_of
from .completing import PICTURES
from .describe_options import DescribeOrder
from .picture_files import content_hash


class Captions(Protocol):
    """Where they go."""

    def add(self, answer: dict[str, Any]) -> None: ...


def load(order: DescribeOrder) -> VisionChat:
    """The order's model."""
    where = {"device": order.device, "dtype": order.dtype, "layers": order.layers}
    return VisionChat.load(order.model, **where)


class Describing:
    """What a `Batch` does with the paths of pictures, on a loaded model."""

    in_flight = PICTURES

    def __init__(self, chat: VisionChat, order: DescribeOrder, captions: Captions) -> None:
        self._chat = chat
        self._question = DESCRIBE if order.question is None else order.question
        self._asked = order.asked
        self._options = {"temperature": 0, **order.sampling}
        self._captions = captions
        self._hashes: dict[str, str] = {}

    def submit(self, path: str) -> Request:
        """Ask for its answer.

        Raises:
            RequestError: it is no picture, or one that the model cannot take.
        """
        self._hashes[path] = content_hash(path)  # before it is looked at: a change is seen later
        return self._chat.submit([shown(path, self._question)], **self._options)

    def done(self, path: str, results: list[TextResult]) -> None:
        """Write its caption."""
        known = {"image": path, "hash": self._hashes.pop(path), **self._asked}
        self._captions.add(known | answer_of(results, self._chat.model.tokenizer))

    def failed(self, path: str, reason: str) -> None:
        """Write why it has none."""
        self._hashes.pop(path, None)
        self._captions.add({"image": path, "error": reason})
