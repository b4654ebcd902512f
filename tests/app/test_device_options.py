"""What --layers takes is what the floors below take."""

from __future__ import annotations

from mindsd.app.device_options import IMAGE_LAYERS, SERVED_LAYERS
from mindsd.attention import layers


def test_layers_of_models_that_draw_are_those_that_can_be_wished():
    assert IMAGE_LAYERS == layers.IMAGE_LAYERS and SERVED_LAYERS == layers.SERVED_LAYERS
