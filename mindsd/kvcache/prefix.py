"""Prefix reuse: a full block is known by a hash of its tokens and of all that stand before them.

    salt -> H(salt, tokens 0..31) -> H(that, tokens 32..63) -> ...

BLAKE2b of 128 bits: two prefixes that hash alike by chance are not to be feared, and 16-bit hashes
have served people other people's images (LMCache issue 4086).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

BYTES = 16


def root(salt: str = "") -> bytes:
    """The hash that chains start from; whatever changes keys and values (an adapter) is salt."""
    return blake2b(salt.encode(), digest_size=BYTES).digest()


def chained(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The hash of a full block.

    Args:
        parent: the hash of the block before it, or the root.
        tokens: ids of the block's tokens.
    """
    return blake2b(parent + array("q", tokens).tobytes(), digest_size=BYTES).digest()
