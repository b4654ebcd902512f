# pyright: reportMissingImports=false
"""Several texts in one batch of llama.cpp, through the C interface that llama-cpp-python gives.

Its class `Llama` draws one text at a time; the calls here are those of llama.cpp's own
`examples/batched`. Sampling is numpy's argmax, which costs less than llama.cpp's sampler.
"""

from __future__ import annotations

from typing import Any

import llama_cpp as lib
import numpy as np

ROOM = 1024  # tokens of a context of one text; each of several has an eighth
SEVERAL = ROOM // 8


class Batches:
    """One loaded GGUF file, and a context for each number of texts, kept between calls."""

    def __init__(self, file: str, threads: int):
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(file.encode(), lib.llama_model_default_params())
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {file}")
        self.words = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.threads = threads
        self.contexts: dict[int, Any] = {}

    def generate(self, prompts: list[list[int]], number: int) -> list[list[int]]:
        context = self._context(len(prompts))
        lib.llama_memory_clear(lib.llama_get_memory(context), True)
        texts = [(one, 0) for one in prompts]
        drawn: list[list[int]] = [[] for _ in prompts]
        for _ in range(number):
            for own, token in zip(drawn, self._forward(context, texts), strict=True):
                own.append(token)
            texts = [
                ([own[-1]], len(prompt) + len(own) - 1)
                for own, prompt in zip(drawn, prompts, strict=True)
            ]
        return drawn

    def close(self) -> None:
        for context in self.contexts.values():
            lib.llama_free(context)
        lib.llama_model_free(self.model)

    def _context(self, number: int) -> Any:
        if number not in self.contexts:
            wanted = lib.llama_context_default_params()
            wanted.n_ctx = ROOM if number == 1 else SEVERAL * number
            wanted.n_batch = max(wanted.n_batch, wanted.n_ctx)
            wanted.n_seq_max = number
            wanted.n_threads = wanted.n_threads_batch = self.threads
            self.contexts[number] = lib.llama_init_from_model(self.model, wanted)
        return self.contexts[number]

    def _forward(self, context: Any, texts: list[tuple[list[int], int]]) -> list[int]:
        """The next token of each text, given as (tokens not yet read, position of the first)."""
        batch = lib.llama_batch_init(sum(len(tokens) for tokens, _ in texts), 0, 1)
        lasts = []
        for text, (tokens, start) in enumerate(texts):
            for place, token in enumerate(tokens):
                index = batch.n_tokens
                batch.token[index] = token
                batch.pos[index] = start + place
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = text
                batch.logits[index] = place == len(tokens) - 1
                batch.n_tokens += 1
            lasts.append(batch.n_tokens - 1)
        failed = lib.llama_decode(context, batch)
        lib.llama_batch_free(batch)
        if failed:
            raise RuntimeError(f"llama_decode failed with {failed}")
        return [self._likeliest(context, last) for last in lasts]

    def _likeliest(self, context: Any, index: int) -> int:
        logits = lib.llama_get_logits_ith(context, index)
        return int(np.ctypeslib.as_array(logits, shape=(self.words,)).argmax())
