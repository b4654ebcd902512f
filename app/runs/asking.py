"""What a row says, and the command line where the row says nothing, to the parameters of images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mindsd.errors import RequestError
from mindsd.pipelines.parameters import ImageParameters
from mindsd.pipelines.profile import Profile

from ..options import Order
from .columns import order_columns, parameter_columns

ITS_OWN = ("prompt", "n", "seed", "negative_prompt")  # differ from row to row
FILES = ("image", "mask", "profile")
SIDES = ("width", "height")
EITHER = (("speed", "profile"), ("profile", "speed"))  # a row's takes the other's place


@dataclass(frozen=True)
class Asked:
    """One image before it has a number and a key.

    Attributes:
        model: a name or a folder.
        parameters: what to draw.
        pictures: paths by the names that the pipelines know them by.
        profile: that its acceleration is from; None for none.
    """

    model: str
    parameters: ImageParameters
    pictures: Mapping[str, str]
    profile: Profile | None = None


class Asking:
    """Checks each set of settings once: rows mostly differ in their prompts.

    Args:
        defaults: values of columns that the command line says.
        folder: the prompt file's: paths of pictures in it are meant from there.

    Raises:
        RequestError, ModelError: a default is wrong.
    """

    def __init__(self, defaults: Mapping[str, Any], folder: Path):
        self._defaults = dict(defaults)
        self._folder = folder
        self._orders: dict[str, Order] = {}
        given = self._defaults.get("image") is not None
        self._order({k: v for k, v in defaults.items() if given or k not in ("mask", "strength")})

    def whole(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A row's values over the defaults.

        Raises:
            RequestError: it says a size twice.
        """
        sides = [name for name in SIDES if name in values]
        if sides and "size" in values:
            raise RequestError(f"the row says size and {sides[0]}, one of the two")
        left = {"size"} if sides else set()
        left |= {other for own, other in EITHER if values.get(own) is not None}
        return {k: v for k, v in self._defaults.items() if k not in left} | self._located(values)

    def image(self, values: Mapping[str, Any], prompt: str, seed: int) -> Asked:
        """The image that whole values ask for.

        Raises:
            RequestError, ModelError: what is wrong, in one sentence.
        """
        order = self._order(values)
        negative = {k: values[k] for k in ("negative_prompt",) if k in values}
        further = {k: values[k] for k in parameter_columns() if values.get(k) is not None}
        [plain] = order.asked
        parameters = replace(plain, **negative, **further, prompt=prompt, seed=seed)
        pictures = {name: str(path) for name, path in order.pictures.items()}
        return Asked(order.model, parameters, pictures, order.tuned)

    def _order(self, values: Mapping[str, Any]) -> Order:
        own = {k: v for k, v in values.items() if k in order_columns() and k not in ITS_OWN}
        known = json.dumps(own, sort_keys=True, default=str)
        if known not in self._orders:
            self._orders[known] = Order(prompts=("x",), seed=0, **own)
        return self._orders[known]

    def _located(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values with their files found from where the prompt file lies."""
        files = {k: self._folder / values[k] for k in FILES if values.get(k)}
        return {**values, **files}
