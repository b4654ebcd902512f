"""What an adapter's own file says it is: the options of peft, all of them understood or refused.

Only plain LoRA is read; every option of peft that means something else is refused by its name,
those of versions to come, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from mindsd.errors import ModelError, RequestError

# Options that say nothing about what a trained adapter computes, or that are obeyed here.
PLAIN = frozenset(
    """alpha_pattern auto_mapping base_model_name_or_path corda_config ensure_weight_tying
    eva_config exclude_modules fan_in_fan_out inference_mode init_lora_weights layers_pattern
    layers_to_transform loftq_config lora_alpha lora_dropout lora_ga_config megatron_core peft_type
    peft_version qalora_group_size r rank_pattern revision runtime_config target_modules task_type
    use_rslora""".split()
)
# Other ways to begin change the model's own weights, too, and then A and B fit to those alone.
BEGINNINGS = (True, False, None, "gaussian", "orthogonal", "eva")
WAY_OUT = "merge it into its model with peft, and load that"


class LoraOptions:
    """The options of one adapter.

    Args:
        source: where they stand, for what is said of them.
        given: a JSON object as peft writes it.

    Raises:
        ModelError: they are more than plain LoRA.
        RequestError: peft is not installed.
    """

    def __init__(self, source: object, given: Mapping[str, Any]):
        try:
            import peft  # heavy and optional
            from peft.tuners.tuners_utils import check_target_module_exists
            from peft.utils.other import get_pattern_key
        except ImportError:
            raise RequestError("LoRA adapters need: pip install peft") from None
        self._source = source
        self._targets, self._pattern = check_target_module_exists, get_pattern_key
        _check(source, given, peft.LoraConfig)
        known = {field.name for field in fields(peft.LoraConfig)} - {"runtime_config"}
        try:
            self._told: Any = peft.LoraConfig(**{k: v for k, v in given.items() if k in known})
        except (TypeError, ValueError, ImportError) as error:
            raise ModelError(f"{source} is not a LoRA configuration ({error})") from None

    def targets(self, name: str) -> bool:
        """Whether it adapts the module of this name."""
        try:
            return bool(self._targets(self._told, name))
        except (TypeError, ValueError, re.error) as error:
            raise ModelError(f"{self._source} has broken target_modules ({error})") from None

    def rank_and_scale(self, name: str) -> tuple[int, float]:
        """Of one module; patterns go before what holds for all."""
        told = self._told
        rank = self._of(told.rank_pattern or {}, name, told.r)
        alpha = self._of(told.alpha_pattern or {}, name, told.lora_alpha)
        numbers = all(isinstance(x, int | float) and math.isfinite(x) for x in (rank, alpha))
        if not numbers or rank != int(rank) or rank < 1:
            raise ModelError(f"{self._source} gives {name} rank {rank!r} and alpha {alpha!r}")
        root = math.sqrt(rank) if told.use_rslora else rank  # arXiv:2312.03732
        return int(rank), alpha / root

    def _of(self, patterns: Mapping[str, Any], name: str, otherwise: Any) -> Any:
        try:
            return patterns.get(self._pattern(list(patterns), name), otherwise)
        except (AttributeError, TypeError, re.error) as error:
            raise ModelError(
                f"{self._source} has a broken rank or alpha pattern ({error})"
            ) from None


def _check(source: object, given: Mapping[str, Any], kind: Any) -> None:
    """Refuse what is more than plain LoRA, and what this peft does not know."""
    if given.get("peft_type") != "LORA":
        raise ModelError(
            f"{source} is of peft_type {given.get('peft_type')!r}; only LORA can be run"
        )
    usual = {field.name: field.default for field in fields(kind)}
    for name, value in sorted(given.items()):
        off = value in (None, False, [], {}) or value == usual.get(name, MISSING)
        if name not in PLAIN and not off:
            raise ModelError(f"{source} has {name}={value!r}, more than plain LoRA; {WAY_OUT}")
    begun = given.get("init_lora_weights", True)
    if begun not in BEGINNINGS:
        raise ModelError(
            f"{source} has init_lora_weights={begun!r}, which changes the model's own weights, "
            "too; save it with peft's path_initial_model_for_weight_conversion"
        )
