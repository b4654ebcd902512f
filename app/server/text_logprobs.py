"""Tokens and their log-probabilities as OpenAI tells them, in chats and in completions.

There is one for every token that was drawn, the one that ended the text included, so there are as
many as the usage counts. Where a character takes several tokens, each has a part of its `bytes`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

from mindsd.pipelines.text_result import TokenLogprob

LEAST = -9999.0  # JSON knows no infinity
BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # SentencePiece's token of one byte


class TokenTexts:
    """What single tokens of one tokenizer stand for.

    Args:
        tokenizer: transformers' fast tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        decoder = tokenizer.backend_tokenizer.decoder
        bytewise = decoder is not None and decoder.decode(["Ġ"]) == " "
        self._bytes = {char: byte for byte, char in bytes_to_unicode().items()} if bytewise else {}

    def bytes_of(self, token: int) -> bytes:
        """What it adds to a text."""
        written = self._tokenizer.convert_ids_to_tokens(token)
        if written is None:  # of the model, unknown to the tokenizer
            return b""
        if token in self._tokenizer.added_tokens_decoder:
            return written.encode()
        if self._bytes:
            return bytes(self._bytes[char] for char in written if char in self._bytes)
        if byte := BYTE.fullmatch(written):
            return bytes.fromhex(byte[1])
        return written.replace("▁", " ").encode()

    def chat(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """In the form of a chat's answer."""
        content = [
            self._told(own.token, own.logprob)
            | {"top_logprobs": [self._told(*pair) for pair in own.top]}
            for own in logprobs
        ]
        return {"content": content, "refusal": None}

    def completion(self, logprobs: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
        """In the form of a completion, whose text begins at this offset.

        Tokens that are no whole character are written `bytes:\\x..`, as OpenAI does: they are keys.
        """
        lengths = [len(self.bytes_of(own.token).decode(errors="replace")) for own in logprobs]
        return {
            "tokens": [self._key(own.token) for own in logprobs],
            "token_logprobs": [max(own.logprob, LEAST) for own in logprobs],
            "top_logprobs": [
                {self._key(token): max(value, LEAST) for token, value in own.top}
                for own in logprobs
            ],
            "text_offset": list(accumulate(lengths[:-1], initial=offset)) if lengths else [],
        }

    def _key(self, token: int) -> str:
        own = self.bytes_of(token)
        try:
            return own.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in own)

    def _told(self, token: int, logprob: float) -> dict[str, Any]:
        own = self.bytes_of(token)
        text = own.decode(errors="replace")
        return {"token": text, "logprob": max(logprob, LEAST), "bytes": list(own)}
