"""What a model is judged on: prompts with seeds, in two sets that share no image.

One set is for the search, the other for what it found. Scenes of the embedded model are held out
from its training, and a checker reads back whether an image shows what its scene says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindsd.assets.recipes.captions import caption
from mindsd.assets.recipes.checker import check
from mindsd.assets.recipes.evaluate import held_out_scenes
from mindsd.assets.recipes.scenes import Scene
from mindsd.errors import RequestError

FIRST_SEED = 1000
PROMPTS = (
    "a portrait of an old fisherman with a grey beard, soft window light",
    "a red fox in the snow, telephoto",
    "a bowl of ramen with an egg and spring onions, seen from above",
    "a narrow street in Lisbon with a yellow tram, morning",
    "a watercolour of a lighthouse on a cliff",
    "a glass chess set on a marble table, shallow depth of field",
    "an astronaut riding a horse on the moon",
    "a wooden cabin by a mountain lake in autumn, reflections",
    "a close-up of a bee on a lavender flower",
    "a 1960s sports car in front of a diner at night, neon signs",
    "an oil painting of a stormy sea with a three-masted ship",
    "a child flying a kite on a beach, wide shot",
    "a stack of old books and a burning candle, still life",
    "an isometric drawing of a small bakery",
    "a black cat asleep on a red velvet chair",
    "a city skyline at dusk seen from the water",
    "a pencil sketch of a dancer in mid leap",
    "a desert with a lone tree under the Milky Way",
    "a robot watering tomato plants in a greenhouse",
    "a shop sign that says OPEN on a brick wall",
    "a bouquet of sunflowers in a blue vase, impressionist",
    "two elephants crossing a river at sunset",
    "a cup of coffee beside a rain-covered window",
    "a castle on a hill in the fog, matte painting",
)


@dataclass(frozen=True)
class Samples:
    """Images to draw: the i-th is of the i-th prompt, with seed `seed` + i.

    Attributes:
        scenes: what the prompts say, where a checker can read it back; None elsewhere.
    """

    prompts: tuple[str, ...]
    seed: int
    scenes: tuple[Scene, ...] | None = None

    def right(self, number: int, pixels: np.ndarray) -> bool:
        """Whether uint8 [128, 128, 3] shows all that the prompt of this number says."""
        assert self.scenes is not None
        return check(self.scenes[number], pixels)["all"]

    def __len__(self) -> int:
        return len(self.prompts)


def scene_samples(number: int) -> tuple[Samples, Samples]:
    """Two sets of so many held-out scenes of the embedded model."""
    scenes = held_out_scenes(2 * number)
    halves = scenes[:number], scenes[number:]
    first, second = (tuple(caption(scene) for scene in half) for half in halves)
    return (
        Samples(first, FIRST_SEED, tuple(halves[0])),
        Samples(second, FIRST_SEED + number, tuple(halves[1])),
    )


def prompt_samples(number: int, prompts: Sequence[str] = PROMPTS) -> tuple[Samples, Samples]:
    """Two sets of so many images, of every second prompt each; a single prompt serves both.

    Where there are fewer prompts than images they come again with other seeds.

    Raises:
        RequestError: there is no prompt.
    """
    if not prompts:
        raise RequestError("there are no prompts to judge by; give at least one")
    first, second = (
        tuple(half[i % len(half)] for i in range(number))
        for half in (prompts[::2], prompts[1::2] or prompts)
    )
    return Samples(first, FIRST_SEED), Samples(second, FIRST_SEED + number)
