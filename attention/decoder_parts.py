"""The parts of a decoder layer that is one call in C, or why a layer is not one of these.

Llama's shape (arXiv:2302.13971): an RMS norm before attention and before a gated unit, each added
to what it was given. Mistral, Qwen2, Qwen3 and SmolLM3 have it too. Names of parts are
transformers'; whether they mean what they say is found out by a trial (decoder_trial.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .decoder_product import KINDS, PANEL

LAYER = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
HEAD_NORMS = {"q_norm", "k_norm"}
GATED = {"gate_proj", "up_proj", "down_proj", "act_fn"}
SILU = ("SiLUActivation", "SiLU")
LANES, MOST_DIM, MOST_GROUP = 16, 256, 16  # as in decoder_attention.h
STRANGE = ("softcap", "sink", "clip")  # of attention: small numbers in a trial do not show them


@dataclass(frozen=True, eq=False)
class Parts:
    """What a layer computes with.

    Attributes:
        layer: the module.
        heads, key_heads, dim: of attention.
        index: of the layer in the cache.
        scale: of scores.
        rotates: whether positions turn queries and keys.
    """

    layer: Any
    heads: int
    key_heads: int
    dim: int
    index: int
    scale: float
    rotates: bool

    @property
    def attention(self) -> Any:
        return self.layer.self_attn

    @property
    def gated(self) -> Any:
        return self.layer.mlp

    @property
    def linears(self) -> tuple[nn.Linear, ...]:
        """q, k, v, o, gate, up, down."""
        own, gated = self.attention, self.gated
        first = (own.q_proj, own.k_proj, own.v_proj, own.o_proj)
        return (*first, gated.gate_proj, gated.up_proj, gated.down_proj)

    @property
    def norms(self) -> tuple[Any, ...]:
        """Of the layer's two halves; then of queries and keys, where it has them."""
        own = (self.layer.input_layernorm, self.layer.post_attention_layernorm)
        if not hasattr(self.attention, "q_norm"):
            return own
        return (*own, self.attention.q_norm, self.attention.k_norm)

    @property
    def inner(self) -> tuple[nn.Module, ...]:
        """All modules whose own forward is passed by."""
        return (self.attention, self.gated, self.gated.act_fn, *self.linears, *self.norms)


def layers_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that look like decoder layers."""
    for name, module in model.named_modules():
        if {"self_attn", "mlp"} <= set(module._modules):
            yield name, module


def find_parts(layer: Any) -> Parts | str:
    """The parts of a layer, or why it runs as it does."""
    own, gated = layer.self_attn, layer.mlp
    if set(layer._modules) != LAYER:
        return f"its parts are {', '.join(sorted(layer._modules))}"
    if set(own._modules) not in (ATTENTION, ATTENTION | HEAD_NORMS):
        return f"its attention has {', '.join(sorted(own._modules))}"
    if set(gated._modules) != GATED or type(gated.act_fn).__name__ not in SILU:
        return "it has no unit gated by SiLU"
    if any(part._parameters for part in (layer, own, gated)):
        return "it has parameters beside those of its parts"
    strange = [name for name in vars(own) if any(word in name for word in STRANGE)]
    if any(getattr(own, name) is not None for name in strange):
        return f"its attention has {', '.join(strange)}"
    return _shaped(layer, own)


def _shaped(layer: Any, own: Any) -> Parts | str:
    dim, index = getattr(own, "head_dim", None), getattr(own, "layer_idx", None)
    scale = getattr(own, "scaling", None)
    if dim is None or index is None or scale is None:
        return "its attention does not say its head_dim, layer_idx and scaling"
    linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    if reason := _misfit(linears):
        return reason
    heads, key_heads = own.q_proj.out_features // dim, own.k_proj.out_features // dim
    if dim % LANES or dim > MOST_DIM or heads > MOST_GROUP * key_heads or heads % key_heads:
        return f"{heads} heads of {dim} numbers over {key_heads} are not such as C takes"
    if heads * dim % PANEL:  # what a product is given has no gap behind it
        return f"{heads} heads of {dim} numbers are no multiple of {PANEL} numbers"
    rotates = bool(getattr(own, "use_rope", True))
    parts = Parts(layer, heads, key_heads, dim, index, float(scale), rotates)
    if any(norm_of(norm) is None for norm in parts.norms):
        return "its norms are not RMS norms of one weight"
    return parts


def _misfit(linears: list[nn.Linear]) -> str | None:
    """What is wrong with the linear layers of a layer."""
    first = linears[0].weight
    if any(type(own) is not nn.Linear for own in linears) or len(linears) != 7:
        return "its linear layers are not plain ones"
    if first.device.type != "cpu":
        return f"it is on {first.device.type}"
    if first.dtype not in KINDS or any(own.weight.dtype is not first.dtype for own in linears):
        return "its linear layers have no one dtype of float32 and bfloat16"
    return None


def norm_of(norm: Any) -> tuple[Tensor, float] | None:
    """The weight and epsilon of an RMS norm; None where it is something else."""
    epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if "RMSNorm" not in type(norm).__name__ or set(norm._parameters) != {"weight"}:
        return None
    if epsilon is None or norm.weight is None or norm.weight.dim() != 1:
        return None
    return norm.weight, float(epsilon)
