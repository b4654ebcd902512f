"""How a diffusers pipeline calls its denoiser under classifier-free guidance, read off its code.

diffusers has no word for it. The three forms below cover its image pipelines; of any other nothing
is assumed, and leaving out a branch is refused.
"""

from __future__ import annotations

import inspect

from mindsd.stepcache.guidance import Guidance

MARKS = {
    "noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)": Guidance.NEGATIVE_FIRST,
    "prompt_embeds + negative_prompt_embeds": Guidance.POSITIVE_FIRST,
    'cache_context("uncond"': Guidance.SEPARATE,
}


def find_guidance(kind: type) -> Guidance | None:
    """The form that a pipeline class has; None where it is not one that is known."""
    if hasattr(kind, "_set_pag_attn_processor"):  # a third, perturbed branch
        return None
    code = inspect.getsource(inspect.unwrap(kind.__call__))
    found = {guidance for mark, guidance in MARKS.items() if mark in code}
    return found.pop() if len(found) == 1 else None
