"""From tokens to text while they come: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """The text of one answer, piece by piece.

    The pieces are the same text however the tokens are split among calls. A stop string is met at
    the first character that completes one; of two that the same character completes, the longer.
    Bytes that are no character are shown as U+FFFD, as `Tokenizer.decode` does, once it is certain
    that no character will come of them.

    Attributes:
        text: all that was shown so far.
        stopped: the stop string that was met, if any. Neither it nor anything after it is shown.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str] = (), skip_special_tokens: bool = True
    ) -> None:
        self.text = ""
        self.stopped: str | None = None
        self._tokenizer = tokenizer
        self._stop = (stop,) if isinstance(stop, str) else tuple(stop)
        added = tokenizer.get_added_tokens_decoder() if skip_special_tokens else {}
        self._silent = {token for token, own in added.items() if own.special}
        self._decoder = DecodeStream(skip_special_tokens=False)
        self._shown: list[int] = []  # the tokens of the decoder's last piece
        self._pending: list[int] = []  # those since, whose text is not certain yet
        self._held = ""  # decoded, but perhaps the beginning of a stop string

    def push(self, tokens: Sequence[int]) -> str:
        """Take the next tokens; the text that is safe to show now, often empty."""
        return self._show("".join(self._decode(token) for token in tokens), last=False)

    def finish(self) -> str:
        """The rest, once no more tokens come. A character cut in half is shown as U+FFFD."""
        rest, self._pending = self._rest(), []
        return self._show(rest, last=True)

    def _decode(self, token: int) -> str:
        """The text that this token makes certain."""
        if token in self._silent:
            return ""
        self._pending.append(token)
        try:
            piece = self._decoder.step(self._tokenizer, token)
        except TypeError:
            raise
        except Exception:  # a byte made an earlier character invalid after it was given out
            piece = self._rest()
            self._decoder = DecodeStream(ids=self._pending, skip_special_tokens=False)
        if piece is None:
            return ""
        self._shown, self._pending = self._pending, []
        return piece

    def _rest(self) -> str:
        """The text of the pending tokens, uncertain as it is."""
        before = self._tokenizer.decode(self._shown, skip_special_tokens=False)
        both = self._tokenizer.decode(self._shown + self._pending, skip_special_tokens=False)
        if both.startswith(before):
            return both[len(before) :]
        return self._tokenizer.decode(self._pending, skip_special_tokens=False)

    def _show(self, piece: str, last: bool) -> str:
        """What can be shown once `piece` has come."""
        if self.stopped is not None:
            return ""
        text = self._held + piece
        met = [(text.find(stop) + len(stop), text.find(stop), stop) for stop in self._stop]
        met = [one for one in met if one[1] >= 0]
        if met:
            _, end, self.stopped = min(met)
        else:
            end = len(text) if last else len(text) - self._doubtful(text)
        self._held = "" if met else text[end:]
        self.text += text[:end]
        return text[:end]

    def _doubtful(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for start in range(max(len(text) - longest, 0), len(text)):
            if any(stop.startswith(text[start:]) for stop in self._stop):
                return len(text) - start
        return 0
