"""What people typed: the text of a special token in it is read as text, never as the token.

Who types `<|im_end|>` must not end a message, nor show a picture with `<image>` (CVE-2025-61620,
CVE-2026-44222). Such a text gets a mark behind its first character before the chat template sees
it. What the template made is cut at the marks and the parts are tokenised apart, so that none of
them holds a special token; the model still reads every character that was typed.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from mindsd.errors import RequestError

FIXED = ("role", "type")  # keys of a message whose values nobody types
DIGITS, TRIES = "0123456789abcdef", 1000


class TypedText:
    """Belongs to one prompt: its mark is drawn by chance, so nobody can type it.

    Args:
        tokenizer: transformers' tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder.values()
        words = {own.content for own in added if own.special} | set(tokenizer.all_special_tokens)
        longest = sorted(filter(None, words), key=len, reverse=True)
        self._words = re.compile("|".join(map(re.escape, longest)) or "(?!)", re.IGNORECASE)
        self._mark = _mark_apart_from(longest)

    def marked(self, value: Any) -> Any:
        """The same messages or tools, with marks in every text of a special token.

        Raises:
            RequestError: a special token is one character, which cannot be cut.
        """
        if isinstance(value, str):
            return self._cut(value)
        if isinstance(value, list | tuple):
            return self._apart([self.marked(own) for own in value])
        if isinstance(value, dict):
            return {
                self._cut(key): own if key in FIXED else self.marked(own)
                for key, own in value.items()
            }
        return value

    def parts(self, text: str) -> list[str]:
        """What the template made, cut at the marks; joined, it is what the model reads."""
        return text.split(self._mark)

    def _cut(self, text: str) -> str:
        while found := self._words.search(text):  # two of them may share characters
            if found.end() - found.start() == 1:
                raise RequestError(f"{found[0]!r} is a special token of this model; leave it out")
            text = self._words.sub(lambda word: word[0][:1] + self._mark + word[0][1:], text)
        return text

    def _apart(self, parts: list[Any]) -> list[Any]:
        """Parts of a content, which templates join: none may end a token that another began."""
        texts = [own.get("text") if isinstance(own, dict) else None for own in parts]
        if not self._words.search("".join(filter(None, texts))):
            return parts
        return [
            own | {"text": self._mark + text} if text else own
            for own, text in zip(parts, texts, strict=True)
        ]


def _mark_apart_from(words: list[str]) -> str:
    """A mark that makes no special token with what stands beside it: where one begins with `a`, a
    mark that ends so would begin it again at every cut.

    Raises:
        RequestError: the words leave no mark, for they begin or end with nearly every digit.
    """
    lower = [own.lower() for own in words]
    begins = {own[:i] for own in lower if own[0] in DIGITS for i in range(1, len(own))}
    ends = {own[i:] for own in lower if own[-1] in DIGITS for i in range(1, len(own))}
    inside = [own for own in lower if set(own) <= set(DIGITS)]
    for _ in range(TRIES):
        mark = secrets.token_hex(16)
        touches = mark.endswith(tuple(begins)) or mark.startswith(tuple(ends))
        if not touches and not any(own in mark for own in inside):
            return mark
    raise RequestError("this model's special tokens leave no mark for what is typed")
