"""What was said so far, kept as long as the model has room for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from mindsd.errors import RequestError
from mindsd.pipelines.prompt import prompt_tokens
from mindsd.pipelines.reasoning import OPEN
from mindsd.pipelines.vision_chat import shown

from .glance import Glance

Content = str | list[dict[str, Any]]  # a text, or the parts of a message that shows pictures
LAST = 8  # tokens, in which an opening mark of thoughts would be


@dataclass(frozen=True)
class Question:
    """What the model is asked.

    Attributes:
        messages: all that is not forgotten, the new one last.
        max_tokens: of the answer, as many as there is room for.
        dropped: exchanges that had to be forgotten for it.
        thinking: the prompt ends inside the model's thoughts.
    """

    messages: list[dict[str, Any]]
    max_tokens: int
    dropped: int
    thinking: bool


@dataclass(eq=False)
class Conversation:
    """Questions and their answers, the system message first.

    When no quarter of the room is left for an answer (or as much as it may take), the oldest
    exchanges are dropped until half of it is: each drop moves everything that follows, which the
    prefix cache then does not know, so it should be rare.

    Attributes:
        tokenizer: transformers' tokenizer.
        room: most tokens of prompt and answer together; None for no bound.
        max_tokens: of one answer.
        glance: counts the tokens of pictures; None where the model sees none.
    """

    tokenizer: Any
    room: int | None
    max_tokens: int
    system: str | None = None
    glance: Glance | None = None
    exchanges: list[tuple[Content, str]] = field(default_factory=list)

    def ask(self, text: str, pictures: Sequence[Image.Image] = ()) -> Question:
        """What to ask the model, with as much of what was said before as fits.

        Args:
            pictures: shown before the text.

        Raises:
            RequestError: there is no room for this even alone; nothing is forgotten.
        """
        content, room = _content(text, pictures), self.room
        if room is not None and (alone := len(self._tokens(content, len(self.exchanges)))) >= room:
            seen = sum(map(self.tokens_of, pictures))
            apart, way = (f", {seen} of them its pictures'", " or show less") if seen else ("", "")
            raise RequestError(
                f"this message takes {alone} tokens{apart}, and there is room for {room} with the "
                f"answer; shorten it{way}"
            )
        dropped = self._overflow(content)
        del self.exchanges[:dropped]
        tokens = self._tokens(content)
        most = self.max_tokens if room is None else min(self.max_tokens, room - len(tokens))
        thinking = self.tokenizer.decode(tokens[-LAST:]).rstrip().endswith(OPEN)
        return Question(self._messages(content), most, dropped, thinking)

    def answered(self, text: str, answer: str, pictures: Sequence[Image.Image] = ()) -> bool:
        """Keep an exchange; one without an answer is not kept. Whether it was."""
        if answer.strip():
            self.exchanges.append((_content(text, pictures), answer))
        return bool(answer.strip())

    def tokens_of(self, picture: Image.Image) -> int:
        """How many it takes, without the text round it.

        Raises:
            RequestError: the model does not see, or its processor refuses the picture.
        """
        if self.glance is None:
            raise RequestError("this model reads text alone; take one that sees: --model tiny-vlm")
        return self.glance.read(picture).tokens

    def restart(self) -> None:
        """Forget everything but the system message."""
        self.exchanges.clear()

    def _overflow(self, content: Content) -> int:
        """How many of the oldest exchanges have to go."""
        if self.room is None or self._leaves(content, 0) >= min(self.max_tokens, self.room // 4):
            return 0
        wished = max(min(self.max_tokens, self.room // 4), self.room // 2)
        ways = range(1, len(self.exchanges))
        return next((n for n in ways if self._leaves(content, n) >= wished), len(self.exchanges))

    def _leaves(self, content: Content, dropped: int) -> int:
        assert self.room is not None
        return self.room - len(self._tokens(content, dropped))

    def _tokens(self, content: Content, dropped: int = 0) -> list[int]:
        messages = self._messages(content, dropped)
        return prompt_tokens(self.tokenizer, messages, vision=self.glance)

    def _messages(self, content: Content, dropped: int = 0) -> list[dict[str, Any]]:
        told: list[tuple[str, Content]] = [] if self.system is None else [("system", self.system)]
        for said, answer in self.exchanges[dropped:]:
            told += [("user", said), ("assistant", answer)]
        return [{"role": role, "content": said} for role, said in [*told, ("user", content)]]


def _content(text: str, pictures: Sequence[Image.Image]) -> Content:
    return list(shown(pictures, text)["content"]) if pictures else text
