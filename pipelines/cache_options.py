"""How large the KV cache of a language model is, and what it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mindsd.device import Device
from mindsd.errors import RequestError
from mindsd.kvcache.pages import DTYPES

BLOCKS = {"cpu": 32, "cuda": 32, "npu": 128}  # tokens; what attention reads fastest there
MOST_CPU = 4 * 2**30  # bytes that are taken unasked where memory is everybody's
SHARES = {"cpu": 0.25, "cuda": 0.6, "npu": 0.6}  # of the memory that is free
MOST_TOKENS = 2**20  # that are taken unasked


@dataclass(frozen=True)
class CacheOptions:
    """The KV cache of a language model.

    Attributes:
        memory: bytes; None for a share of what is free.
        dtype: "auto" (as the model computes) or "int8" (half of bfloat16's room, a little less
            exact).
        block: tokens that one block holds; 0 for what the device reads fastest.
        images: bytes for what the vision tower saw in pictures; models that see keep it, so that
            the same picture is not seen twice.
    """

    memory: int | None = None
    dtype: str = "auto"
    block: int = 0
    images: int = 256 * 2**20

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory < 1:
            raise RequestError(f"the KV cache needs memory, got {self.memory} bytes")
        if self.dtype not in DTYPES:
            raise RequestError(f"the KV cache's dtype must be auto or int8, got {self.dtype!r}")
        if self.images < 0:
            raise RequestError(f"images are kept in 0 bytes or more, got {self.images}")
        if not 0 <= self.block <= 4096:
            raise RequestError(f"a block holds 1 to 4096 tokens, got {self.block}")

    def on(self, device: Device) -> CacheOptions:
        """The same, with what the device decides said."""
        return replace(self, block=self.block or BLOCKS[device.kind])

    def blocks(self, token_bytes: Mapping[str, int], device: Device) -> int:
        """How many blocks there are: as the memory holds, and no more than anybody could use.

        Of options that say how large a block is (`on`).

        Args:
            token_bytes: what a token takes, by the cache's dtype.

        Raises:
            RequestError: the memory holds not one block.
        """
        per_block = token_bytes[self.dtype] * self.block
        if self.memory is None:
            budget = SHARES[device.kind] * device.free()
            if device.kind == "cpu":
                budget = min(budget, MOST_CPU)
            return int(max(1, min(budget // per_block, MOST_TOKENS // self.block)))
        if self.memory < per_block:
            raise RequestError(
                f"a KV cache of {self.memory} bytes holds not one block of {per_block} bytes "
                f"({self.block} tokens); give it more memory"
            )
        return self.memory // per_block
