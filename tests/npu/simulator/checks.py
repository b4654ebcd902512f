"""Refusals of a simulated NPU, and what it is strict about."""

from __future__ import annotations

from dataclasses import dataclass


class AclnnError(RuntimeError):
    """A documented parameter check of an operator failed."""


class SilentlyWrong(AclnnError):
    """Hardware takes this call and computes something that is documented or reported as wrong."""


class NotSimulated(AclnnError):
    """The call may be right, but the simulator does not know its semantics."""


@dataclass(frozen=True)
class Strict:
    """Where the simulator refuses though hardware would compute something. All on by default.

    Attributes:
        float64: float64 and complex128 tensors may not lie on the device (tier 1).
        blind_rows: a fully masked row needs inner_precise 2 or 3; without it hardware loses
            precision without a word. Off: such rows get the mean of all values.
        pse_formula: npu_fusion_attention's documents disagree whether the bias is added before or
            after the scale; so a bias needs scale 1, or npu_fusion_attention_v2 with pse_type 0.
            Off: it is added after, as the documented example does.
        next_tokens: npu_prompt_flash_attention without a mask is documented to ignore
            next_tokens, whose default 0 means causal elsewhere; so it must be 2147483647.
            Off: ignored.
        reported_faults: what users reported of fused_infer_attention: packed sequences without a
            mask average all values (vllm-ascend#13699), a mask in paged decode is ignored past
            position 512 (vllm-ascend#15503). Off: computed as documented.
    """

    float64: bool = True
    blind_rows: bool = True
    pse_formula: bool = True
    next_tokens: bool = True
    reported_faults: bool = True


LENIENT = Strict(False, False, False, False, False)


@dataclass(frozen=True)
class Checks:
    """Parameter checks of one operator; the messages read like aclnn's."""

    op: str

    def need(self, holds: bool, message: str) -> None:
        """Raises AclnnError unless `holds`."""
        if not holds:
            raise AclnnError(f"call {self.op} failed, detail:EZ1001: Parameter check: {message}")

    def avoid(self, wrong: bool, message: str) -> None:
        """Raises SilentlyWrong if `wrong`."""
        if wrong:
            raise SilentlyWrong(f"{self.op} would be silently wrong: {message}")

    def known(self, holds: bool, message: str) -> None:
        """Raises NotSimulated unless `holds`."""
        if not holds:
            raise NotSimulated(f"{self.op}: the simulator does not know {message}")
