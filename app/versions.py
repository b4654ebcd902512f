"""The versions that decide a picture, for its record. Imports torch and diffusers."""

from __future__ import annotations

import diffusers
import torch

import mindsd

VERSIONS = {
    "mindsd": mindsd.__version__,
    "torch": torch.__version__,
    "diffusers": diffusers.__version__,
}
