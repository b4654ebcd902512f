"""The chips that differ in what they compute, by the SoC name that CANN reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """One SoC.

    Attributes:
        soc: the name, as `torch.npu.get_device_name()` gives it.
        family: "A2" (Atlas 800 A2), "A3", "950" or "310P" (Atlas inference cards).
    """

    soc: str
    family: str

    @property
    def has_bfloat16(self) -> bool:
        return self.family != "310P"


CHIPS = {
    chip.soc: chip
    for chip in (
        Chip("Ascend910B1", "A2"),
        Chip("Ascend910_9391", "A3"),
        Chip("Ascend950PR_9579", "950"),
        Chip("Ascend310P3", "310P"),
    )
}
DEFAULT = "Ascend910B1"
