"""One call for a chat: from its messages to a request of the engine, and from answers to JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from PIL import Image

from mindsd.pipelines.resident import Resident
from mindsd.pipelines.text_result import TextResult
from mindsd.pipelines.tools import Tool, parse_tools
from mindsd.request import Done, Event, Piece, Request

from .chat_body import ChatBody
from .chat_delta import ChatDelta, call_of
from .chat_form import NamedTool, constraint_of, tools_of
from .chat_message import image_urls, told
from .refusal import GONE, about
from .remote import Remote, is_remote, read_image_url
from .text_body import UNLESS_SAID
from .text_task import Results, TextTask
from .threads import FETCHERS
from .uploads import DECODERS, read_upload


class ChatTask(TextTask):
    """Belongs to one call.

    Args:
        body: what was asked.
        remote: from where pictures may be fetched; None for nowhere.
    """

    kind, prefix = "chat", "chatcmpl-"
    form, piece = "chat.completion", "chat.completion.chunk"
    body: ChatBody

    def __init__(self, body: ChatBody, remote: Remote | None = None) -> None:
        super().__init__(body)
        self._remote = remote
        urls = [url for message in body.messages for url in image_urls(message)]
        if urls:
            self.readers = FETCHERS if remote and any(map(is_remote, urls)) else DECODERS
        self._messages: list[dict[str, Any]] = []
        self._tools: tuple[Tool, ...] = ()
        self._deltas: dict[int, ChatDelta] = {}

    def decode(self) -> None:
        with about("messages"):
            self._messages = told(self.body.messages, self._picture)

    def _picture(self, url: str) -> Image.Image:
        if self.stopped:
            raise replace(GONE)
        data = read_image_url(url, self._remote)
        if self.readers is not FETCHERS:
            return read_upload(data)
        return DECODERS.submit(read_upload, data).result()  # no more at a time than elsewhere

    def _requests(self, resident: Resident) -> Iterator[Request]:
        text, body = resident.text, self.body
        if self.readers is None:
            self.decode()
        with about("tools"):
            tools = tools_of(body.tools)
            self._tools = parse_tools(tools) if tools and body.tool_choice != "none" else ()
        with about("response_format"):
            form = constraint_of(body.response_format)
        yield text.submit(
            _spoken(self._messages, text.model.tokenizer),
            chat=True,
            tools=tools,
            tool_choice=_choice(body.tool_choice),
            untrusted=True,
            unless_said=UNLESS_SAID,
            **body.options(),
            **form,
        )

    def choices(self, results: Results) -> list[dict[str, Any]]:
        return [self._whole(own) for own in results[0]]

    def begin(self) -> list[dict[str, Any]]:
        for sample in range(self.number):
            self._deltas[sample] = ChatDelta(self._tools, self._most_calls)
        first = {"role": "assistant", "content": ""}
        return [self._piece(sample, first) for sample in self._deltas]

    def tell(self, place: int, event: Event) -> list[dict[str, Any]]:
        if isinstance(event, Piece):
            deltas = self._deltas[event.sample].push(event)
            return [self._piece(event.sample, delta) for delta in deltas]
        if isinstance(event, Done):
            return [choice for result in event.result for choice in self._end(result)]
        return []

    def _end(self, result: TextResult) -> Iterator[dict[str, Any]]:
        for delta in self._deltas[result.sample].finish():
            yield self._piece(result.sample, delta)
        yield self._piece(result.sample, {}, result.finish_reason)

    def _piece(
        self, sample: int, delta: dict[str, Any], reason: str | None = None
    ) -> dict[str, Any]:
        """A delta, with the log-probabilities that are not told yet."""
        waiting = self._deltas[sample].logprobs()
        told = self.texts.chat(waiting) if waiting else None
        return {"index": sample, "delta": delta, "logprobs": told, "finish_reason": reason}

    @property
    def _most_calls(self) -> int | None:
        return 1 if self.body.parallel_tool_calls is False else None

    def _whole(self, result: TextResult) -> dict[str, Any]:
        calls = [call_of(call) for call in result.tool_calls[: self._most_calls]]
        message: dict[str, Any] = {
            "role": "assistant",
            "content": result.text if result.text or not calls else None,
            "refusal": None,
            "annotations": [],
        }
        if result.reasoning is not None:
            message["reasoning_content"] = result.reasoning
        if calls:
            message["tool_calls"] = calls
        return {
            "index": result.sample,
            "message": message,
            "logprobs": None if result.logprobs is None else self.texts.chat(result.logprobs),
            "finish_reason": result.finish_reason,
        }


def _choice(choice: str | NamedTool | None) -> Any:
    return choice.model_dump() if isinstance(choice, NamedTool) else choice


def _spoken(messages: list[dict[str, Any]], tokenizer: Any) -> list[dict[str, Any]]:
    """Developers speak as the system to a model whose template knows no developer."""
    if "developer" in str(getattr(tokenizer, "chat_template", None)):
        return messages
    system = {"role": "system"}
    return [own | system if own["role"] == "developer" else own for own in messages]
