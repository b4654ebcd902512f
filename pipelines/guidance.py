"""How a diffusers pipeline calls its denoiser under classifier-free guidance, read off its code.

diffusers has no word for it. The forms below cover its image pipelines; of any other nothing is
assumed, and leaving out a branch is refused.
"""

from __future__ import annotations

import inspect
import re

from mindsd.stepcache.guidance import Guidance

MARKS = {
    "noise_pred_uncond, noise_pred_text = noise_pred.chunk(2)": Guidance.NEGATIVE_FIRST,
    "prompt_embeds + negative_prompt_embeds": Guidance.POSITIVE_FIRST,
    'cache_context("uncond"': Guidance.SEPARATE,
}
# A pipeline that says one of these is not as it looks.
OTHERWISE = (
    "repeats=num_frames",  # its texts have a row for each frame, its latents one for each video
    "encoder_hidden_states_llama3",  # its texts have their layers before their rows
)
# It reads or changes what happens inside its denoiser, between or during its calls, or its steps
# cannot be counted: it steps by copies of its scheduler, or several times at one time.
INSIDE = (
    "register_forward_hook",
    "enable_grad",
    "enable_fuser",
    "deepcopy(self.scheduler",
    "views_scheduler_status",
)

GUIDED = re.compile(
    r"= \w+\s*\+ [\w.]+ \* \((\w+) - (\w+)\)"
)  # ... + scale * (positive - negative)
CALL = r"\b{} = self\.(transformer|unet)\("


def find_guidance(kind: type) -> Guidance | None:
    """The form that a pipeline class has; None where it is not one that is known."""
    code = _code(kind)
    if hasattr(kind, "_set_pag_attn_processor") or looks_inside(kind):  # more than two branches
        return None
    if any(word in code for word in OTHERWISE):
        return None
    found = {guidance for mark, guidance in MARKS.items() if mark in code}
    if _two_calls(code):
        found.add(Guidance.SEPARATE)
    return found.pop() if len(found) == 1 else None


def looks_inside(kind: type) -> bool:
    """Whether a pipeline class depends on what its denoiser does inside: all of it must run."""
    code = _code(kind)
    return any(word in code for word in INSIDE)


def _two_calls(code: str) -> bool:
    """Whether the denoiser is called for the positive and then for the negative prediction."""
    for positive, negative in GUIDED.findall(code):
        first = re.search(CALL.format(positive), code)
        second = re.search(CALL.format(negative), code)
        if first is None or second is None or first[1] != second[1]:
            continue
        return first.start() < second.start() and code.count(f"self.{first[1]}(") == 2
    return False


def _code(kind: type) -> str:
    return inspect.getsource(inspect.unwrap(kind.__call__))
