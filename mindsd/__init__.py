"""mindsd: image, vision and text models, fast on the machine you have."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mindsd.config import Acceleration
    from mindsd.errors import MindsdError
    from mindsd.pipelines.accelerate import accelerate
    from mindsd.pipelines.image_to_image import ImageToImage
    from mindsd.pipelines.inpaint import Inpaint
    from mindsd.pipelines.text_generation import TextGeneration
    from mindsd.pipelines.text_to_image import TextToImage
    from mindsd.pipelines.vision_chat import VisionChat

__version__ = "0.1.0"

# Public name -> where it lives, loaded when first asked for: importing mindsd imports no torch.
_FACE = {
    "TextToImage": "mindsd.pipelines.text_to_image",
    "TextGeneration": "mindsd.pipelines.text_generation",
    "VisionChat": "mindsd.pipelines.vision_chat",
    "ImageToImage": "mindsd.pipelines.image_to_image",
    "Inpaint": "mindsd.pipelines.inpaint",
    "accelerate": "mindsd.pipelines.accelerate",
    "Acceleration": "mindsd.config",
    "MindsdError": "mindsd.errors",
}

__all__ = [
    "Acceleration",
    "ImageToImage",
    "Inpaint",
    "MindsdError",
    "TextGeneration",
    "TextToImage",
    "VisionChat",
    "accelerate",
]


def __getattr__(name: str):
    if name not in _FACE:
        raise AttributeError(f"module 'mindsd' has no attribute {name!r}")
    return getattr(import_module(_FACE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
