"""Decoder layers of a transformers model, each as one call in C where a step has few tokens.

A layer's forward is some forty operations of torch, a dozen modules and their Python: 300 us, of
which a token's share of arithmetic is a small part. In C the same layer is read from memory once
and nothing else (decoder_layer.c). Steps with many tokens, and whatever C does not do (adapters,
pictures whose tokens see each other, masks of a model's own), run through the module as before.

A layer is chosen by its parts (decoder_parts.py), and trusted once both ways gave the same numbers
(decoder_trial.py). Inside a layer only the inputs of products are rounded to the model's dtype, so
bfloat16 comes out a little nearer to float32 than the module's own.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mindsd import native
from mindsd.kvcache.pages import PageStore
from mindsd.kvcache.step import Step, present_step
from mindsd.prepack import state

from .decoder_chain import Chain
from .decoder_fields import LayerFields, float_norm, layer_fields, packed_parts
from .decoder_own import is_own
from .decoder_parts import Parts, norm_of
from .decoder_shelf import LINE, Shelf, aligned
from .decoder_step import page_fields, tell
from .for_transformers import Rule

MOST = 256  # tokens of a step that runs in C: a budget of them is 2.2 times as fast as modules
IDLE = 0.05  # seconds without a step, after which all layers are looked at again


class NativeLayer:
    """One layer in C; `run` goes in the place of its forward.

    Args:
        parts: of the layer.
        crew: what all layers of a model share.
        eight_bits: round its weights (they are to be rounded already: int8_weights.py).
    """

    def __init__(self, parts: Parts, crew: Crew, eight_bits: bool):
        self.parts, self._crew = parts, crew
        self.place: int | None = None  # among the layers of its crew
        self._tensors = [
            (own._parameters, name, tensor, state(tensor))
            for own in parts.inner
            for name, tensor in own._parameters.items()
            if tensor is not None
        ]
        self._runs = [
            (vars(own), vars(own).get("forward"), own._forward_hooks, own._forward_pre_hooks)
            for own in parts.inner
        ]
        self._packed = packed_parts(parts, eight_bits, crew.shelf)
        self._norms = [float_norm(norm_of(own)) for own in parts.norms]
        self.fields = layer_fields(parts, self._packed, self._norms)
        self.like = parts.attention.q_proj.weight.new_empty(1, parts.key_heads, parts.dim)
        crew.grow(self.fields)

    @property
    def nbytes(self) -> int:
        return sum(own.nbytes for own in self._packed)

    def run(
        self,
        original: Callable[..., Any],
        hidden_states: Tensor,
        attention_mask: Any = None,
        **kwargs: Any,
    ) -> Any:
        """In the place of the layer's forward."""
        step = present_step()
        if step is not None and self._crew.takes(step):
            turn = kwargs.get("position_embeddings")
            out = self._crew.out_of(step, self, hidden_states, attention_mask, turn)
            if out is not None:
                return out
        return original(hidden_states, attention_mask=attention_mask, **kwargs)

    def fits(self, step: Step, hidden: Tensor, mask: Any, turn: Any) -> bool:
        """Whether C computes what its forward is asked."""
        sight = mask.sight if type(mask) is Rule else None
        if sight is None or not (sight.causal or sight.window):
            return False
        if hidden.shape != (1, step.tokens, self.fields.width):
            return False
        if hidden.dtype is not self.like.dtype or not isinstance(turn, tuple):
            return False
        return turn[0].shape == turn[1].shape == (1, step.tokens, self.parts.dim)

    def unchanged(self) -> bool:
        """Whether its parts are what they were: weights, and what runs in their place."""
        for parameters, name, tensor, before in self._tensors:
            if parameters.get(name) is not tensor or state(tensor) != before:
                return False
        for own, before, hooks, more in self._runs:
            if hooks or more or own.get("forward") is not before:
                return all(map(is_own, self.parts.inner))
        return True


class Crew:
    """The layers of a model in C, and what they share: threads, and where they read and write.

    One call runs a layer and all behind it whose tokens see the same. They are asked for one by
    one: a layer that is given exactly what the one before it gave has its answer already, any other
    is computed then.
    """

    def __init__(self, found: ctypes.CDLL):
        self.shelf = Shelf()
        self._library = found
        self._call = found.decoder_layers
        self._call.argtypes = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * 4]
        self._call.restype = None
        self._layers: list[NativeLayer] = []
        self._threads = native.threads()
        self._room = torch.empty(0, dtype=torch.uint8)
        self._asked, self._turn, self._whole = 0.0, 0, True
        self._tables: tuple[PageStore, Tables] | None = None

    def join(self, layer: NativeLayer) -> None:
        """It stands behind those that joined before."""
        layer.place = len(self._layers)
        self._layers.append(layer)

    def grow(self, fields: LayerFields) -> None:
        """Make room for a layer."""
        wanted = self._library.decoder_layer_room(
            ctypes.byref(fields), ctypes.c_int64(MOST), ctypes.c_int64(self._threads)
        )
        if self._room.numel() < wanted + LINE:
            self._room = torch.empty(wanted + LINE, dtype=torch.uint8)

    def takes(self, step: Step) -> bool:
        """Whether a step is one for C; asked once a step."""
        return step.plan(self, lambda: self._takes(step))

    def out_of(
        self, step: Step, layer: NativeLayer, hidden: Tensor, mask: Any, turn: Any
    ) -> Tensor | None:
        """What a layer gives; None where it must be its own forward."""
        chain: Chain | None = step.plans.get((self, "chain"))
        place = layer.place
        if chain is not None and place is not None and chain.knows(place, hidden, mask, turn):
            step.next_call(layer.parts.index)
            return chain.outs[place - chain.first]
        if not layer.fits(step, hidden, mask, turn):
            return None
        chain = self._run(step, layer, hidden, mask, turn)
        step.plans[self, "chain"] = chain
        return chain.outs[0]

    def _run(self, step: Step, layer: NativeLayer, hidden: Tensor, mask: Any, turn: Any) -> Chain:
        """From a layer on to the last that sees the same tokens."""
        index = layer.parts.index
        lane, window = step.pages.lane_of[index], mask.sight.window
        key = (self, lane, window, id(turn[0]))  # kept alive by what is told
        room = aligned(self._room)
        told = step.plan(key, lambda: tell(step, lane, window, turn, self._threads, room))
        call = step.next_call(index)
        if layer.place is None or call:  # on trial, or asked again in one forward
            tables, first = Tables(step.pages, [layer], call), 0
        else:
            tables, first = self._tables_of(step.pages), layer.place
        count = 1 if self._watched() else tables.together[first]
        hidden = hidden.contiguous()
        outs = hidden.new_empty(count, *hidden.shape)
        self._call(
            tables.layers + 8 * first,
            count,
            told.address,
            tables.pages + 8 * first,
            hidden.data_ptr(),
            outs.data_ptr(),
        )
        return Chain(first, outs.unbind(0), mask, turn)

    def _watched(self) -> bool:
        """Whether a hook may change what stands between two layers, also in its place."""
        layers = (own.parts.layer for own in self._layers)
        return any(own._forward_hooks or own._forward_pre_hooks for own in layers)

    def _tables_of(self, pages: PageStore) -> Tables:
        if self._tables is None or self._tables[0] is not pages:
            self._tables = pages, Tables(pages, self._layers, 0)
        return self._tables[1]

    def _takes(self, step: Step) -> bool:
        if step.tokens > MOST or torch.is_grad_enabled() or step.device.type != "cpu":
            return False
        if any(own.whole or own.adapter is not None for own in step.segments):
            return False
        if (threads := native.threads()) != self._threads:
            self._threads, self._room = threads, torch.empty(0, dtype=torch.uint8)
            for layer in self._layers:
                self.grow(layer.fields)
        self._whole = all(layer.unchanged() for layer in self._to_check(step))
        return self._whole

    def _to_check(self, step: Step) -> Sequence[NativeLayer]:
        """All layers where a text begins or nothing ran for a while; else one after the other, for
        a look at all takes as long as a layer."""
        now, before = time.monotonic(), self._asked
        self._asked = now
        begins = any(own.length > 1 for own in step.segments)
        if begins or now - before > IDLE or not self._whole:
            return self._layers
        self._turn = (self._turn + 1) % max(1, len(self._layers))
        return self._layers[self._turn : self._turn + 1]


class Tables:
    """Where C finds layers that stand behind each other, and their pages.

    Attributes:
        layers, pages: addresses of arrays of pointers.
        together: for each layer, how many from it on see the same tokens.
    """

    def __init__(self, pages: PageStore, layers: Sequence[NativeLayer], call: int):
        both = [pages.of(own.parts.index, call, own.like, own.like) for own in layers]
        self._fields = [page_fields(*own) for own in both]
        pointers = ctypes.c_void_p * len(layers)
        self._layers = pointers(*(ctypes.addressof(own.fields) for own in layers))
        self._pages = pointers(*map(ctypes.addressof, self._fields))
        self.layers, self.pages = map(ctypes.addressof, (self._layers, self._pages))
        lanes = [pages.lane_of[own.parts.index] for own in layers]
        self.together = [1] * len(layers)
        for place in reversed(range(len(layers) - 1)):
            if lanes[place] == lanes[place + 1]:
                self.together[place] += self.together[place + 1]
