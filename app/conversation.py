"""What was said so far, kept as long as the model has room for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mindsd.errors import RequestError
from mindsd.pipelines.prompt import prompt_tokens
from mindsd.pipelines.reasoning import OPEN

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

    messages: list[dict[str, str]]
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
    """

    tokenizer: Any
    room: int | None
    max_tokens: int
    system: str | None = None
    exchanges: list[tuple[str, str]] = field(default_factory=list)

    def ask(self, text: str) -> Question:
        """What to ask the model, with as much of what was said before as fits.

        Raises:
            RequestError: there is no room for this text even alone; nothing is forgotten.
        """
        room = self.room
        if room is not None and (alone := len(self._tokens(text, len(self.exchanges)))) >= room:
            raise RequestError(
                f"this message takes {alone} tokens, and there is room for {room} with the "
                "answer; shorten it"
            )
        dropped = self._overflow(text)
        del self.exchanges[:dropped]
        tokens = self._tokens(text)
        most = self.max_tokens if room is None else min(self.max_tokens, room - len(tokens))
        thinking = self.tokenizer.decode(tokens[-LAST:]).rstrip().endswith(OPEN)
        return Question(self._messages(text), most, dropped, thinking)

    def answered(self, text: str, answer: str) -> None:
        """Keep an exchange; one without an answer is not kept."""
        if answer.strip():
            self.exchanges.append((text, answer))

    def restart(self) -> None:
        """Forget everything but the system message."""
        self.exchanges.clear()

    def _overflow(self, text: str) -> int:
        """How many of the oldest exchanges have to go."""
        if self.room is None or self._leaves(text, 0) >= min(self.max_tokens, self.room // 4):
            return 0
        wished = max(min(self.max_tokens, self.room // 4), self.room // 2)
        ways = range(1, len(self.exchanges))
        return next((n for n in ways if self._leaves(text, n) >= wished), len(self.exchanges))

    def _leaves(self, text: str, dropped: int) -> int:
        assert self.room is not None
        return self.room - len(self._tokens(text, dropped))

    def _tokens(self, text: str, dropped: int = 0) -> list[int]:
        return prompt_tokens(self.tokenizer, self._messages(text, dropped))

    def _messages(self, text: str, dropped: int = 0) -> list[dict[str, str]]:
        told = [] if self.system is None else [("system", self.system)]
        for said, answer in self.exchanges[dropped:]:
            told += [("user", said), ("assistant", answer)]
        return [{"role": role, "content": content} for role, content in [*told, ("user", text)]]
