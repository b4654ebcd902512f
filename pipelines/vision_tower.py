"""A vision-language model's tower: pictures in, rows of features out, for many requests at once.

This file is the only one that knows how transformers hands images to its models: by
`get_image_features` before the language model runs, and as `mm_encoder_outputs` when it does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from mindsd.attention.divert import Diversion
from mindsd.attention.registry import default_registry
from mindsd.batching.coroutine import make_batchable
from mindsd.errors import ModelError
from mindsd.wrap import Wrap, wrap

PIXELS = "pixel_values"
FEW = 8
TEXT = {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "position_ids"}


class VisionTower(nn.Module):
    """The part of a model that sees.

    Args:
        model: a vision-language model of transformers.

    Raises:
        ModelError: it takes no images that were seen before.
    """

    def __init__(self, model: Any):
        super().__init__()
        name = type(model).__name__
        if not hasattr(model, "get_image_features"):
            raise ModelError(f"{name} has no vision tower of its own (get_image_features)")
        if "mm_encoder_outputs" not in inspect.signature(model.forward).parameters:
            raise ModelError(f"{name} takes no images that were seen before (mm_encoder_outputs)")
        self._model = [model]  # in a list: its weights are not this module's
        self._takes = set(inspect.signature(model.base_model.get_image_features).parameters)
        self._kind: type[Any] | None = None
        self._listed: dict[str, bool] = {}

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return next(self.weights()).device

    def weights(self) -> Iterator[Tensor]:
        """Of the model that it is a part of."""
        return self._model[0].parameters()

    def inputs(self, processed: Mapping[str, Any]) -> dict[str, Tensor]:
        """What the tower takes of one processed picture: each with one row, [1, ...]."""
        return {
            name: value[None]
            for name, value in processed.items()
            if isinstance(value, Tensor) and name not in TEXT and name in self._takes
        }

    def forward(
        self,
        pixel_values: Tensor,
        others: Mapping[str, Tensor],
        sizes: tuple[Any, ...] = (),
        keys: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Features of pictures; the same picture of several requests is seen once.

        Args:
            pixel_values: [B, ...], a row for each picture, as `inputs` gives them.
            others: what else `inputs` gives, each [B, ...].
            sizes: pictures of other sizes than these cannot be in the same forward.
            keys: int64 [B, n]; pictures of equal keys are the same. None: all are different.

        Returns:
            [B, n, dim] of the tower's output, then of each deeper layer (DeepStack).
        """
        if keys is not None and len(keys) > 1:
            _, which = torch.unique(keys, dim=0, return_inverse=True)
            first = [which.tolist().index(own) for own in range(int(which.max()) + 1)]
            if len(first) < len(keys):
                fewer = {name: value[first] for name, value in others.items()}
                return tuple(own[which] for own in self._features(pixel_values[first], fewer))
        return self._features(pixel_values, others)

    def _features(self, pixel_values: Tensor, others: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        rows = len(pixel_values)
        flat = {name: value.flatten(0, 1) for name, value in others.items()}
        model = self._model[0]
        seen = model.get_image_features(pixel_values.flatten(0, 1), return_dict=True, **flat)
        deep = seen.get("deepstack_features") or ()
        self._kind = type(seen)
        self._listed = {
            "pooler_output": not isinstance(seen["pooler_output"], Tensor),
            "deepstack_features": bool(deep) and not isinstance(deep[0], Tensor),
        }
        return tuple(_rows(own, rows) for own in (seen["pooler_output"], *deep))

    def outputs(self, features: tuple[Tensor, ...]) -> dict[str, Any]:
        """Rows of features, [n, dim] each, in the form that the model takes them."""
        assert self._kind is not None, "nothing was seen yet"
        first, *deep = features
        fields: dict[str, Any] = {"pooler_output": self._formed("pooler_output", first)}
        if deep:
            fields["deepstack_features"] = [self._formed("deepstack_features", own) for own in deep]
        return {"image": self._kind(**fields)}

    def _formed(self, name: str, rows: Tensor) -> Any:
        """A list with one item, or a batch of one."""
        if self._listed[name]:
            return [rows]
        return rows[None] if name == "pooler_output" else rows


def open_tower(tower: VisionTower) -> list[Wrap]:
    """Let engines see pictures of several requests at once, by the fastest attention there is.

    Remove the wraps in reversed order.
    """
    registry, weight = default_registry(), next(tower.weights())
    below = []
    if registry.outdoes_torch(weight.device, weight.dtype):
        below.append(wrap(tower, "forward", Diversion(registry).run))
    return [*below, make_batchable(tower, "forward", "image", "the vision tower")]


def sizes_of(inputs: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """What says into how many tokens a picture is divided: whole numbers beside its pixels."""
    whole = {
        name: value
        for name, value in sorted(inputs.items())
        if name != PIXELS and not value.is_floating_point()
    }
    return tuple((name, *_told(value)) for name, value in whole.items())


def _told(value: Tensor) -> list[Any]:
    """A tensor's shape and numbers; many numbers by their hash."""
    if value.numel() <= FEW:
        return [*value.shape, *value.flatten().tolist()]
    return [*value.shape, blake2b(value.cpu().contiguous().numpy().tobytes()).hexdigest()]


def _rows(features: Any, rows: int) -> Tensor:
    """[B, n, dim] of one tensor, or of a list with a tensor for each picture."""
    listed = [features] if isinstance(features, Tensor) else features
    joined = torch.cat([own.reshape(-1, own.shape[-1]) for own in listed])
    return joined.view(rows, -1, joined.shape[-1])
