"""What cannot be inpainted is said before anything is drawn."""

from __future__ import annotations

import pytest

from mindsd import Inpaint
from mindsd.errors import ModelError


def test_a_model_of_too_few_channels_is_refused_by_name():
    with pytest.raises(ModelError, match="16 or 33 input channels, this model has 4"):
        Inpaint.load("tiny-dit")
