"""What a tuning or a bench found, as words, as rows of a table, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from mindsd.pipelines.scores import Scores, Spread, Timing, share
from mindsd.pipelines.search import Tried
from mindsd.pipelines.way import Way

MIB = 2**20
# Stage -> what stands above its table.
HEADINGS = {
    "search": "Searched",
    "unseen": "On images that the search did not see",
    "bench": "",
}
COLUMNS = ("way", "images", "s/image", "to plain", "least-most", "PSNR dB", "p10", "SSIM", "p10")


@dataclass(frozen=True)
class Finding:
    """One way with all that is known of it.

    Attributes:
        stage: "search", "unseen" (images that the search did not see) or "bench".
        peak: bytes of memory at most.
        said: what came of it.
    """

    way: Way
    stage: str
    scores: Scores | None = None
    timing: Timing | None = None
    peak: int | None = None
    said: str = ""

    @classmethod
    def of(cls, tried: Tried) -> Finding:
        said = tried.verdict.value + (f": {tried.reason}" if tried.reason else "")
        stage = "unseen" if tried.unseen else "search"
        return cls(tried.way, stage, tried.scores, tried.timing, said=said)

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not known is null."""
        scores, timing = self.scores, self.timing
        told: dict[str, Any] = {
            "way": str(self.way),
            "acceleration": self.way.acceleration.as_json(),
            "steps": self.way.steps,
            "stage": self.stage,
            "images": len(scores) if scores else 0,
            "seconds": _round(timing and timing.median),
            "speedup": timing and [_round(ratio) for ratio in timing.speedups],
        }
        for name in ("psnr", "ssim"):
            told[name] = scores and _spread(Spread.of(getattr(scores, name)))
        told["right"] = _round(share(scores.right)) if scores else None
        told["right_plain"] = _round(share(scores.plain_right)) if scores else None
        return told | {"peak_bytes": self.peak, "said": self.said}


def describe(finding: Finding) -> str:
    """One line for people: "--step-cache interval:2: holds, 1.61x, SSIM 0.9970 of 16 images"."""
    parts = [finding.said]
    if finding.timing is not None:
        parts.append(f"{finding.timing.speedup:.2f}x")
    if finding.scores is not None:
        ssim = Spread.of(finding.scores.ssim).mean
        parts.append(f"SSIM {ssim:.4f} of {len(finding.scores)} images")
    return f"{finding.way}: {', '.join(part for part in parts if part)}"


def table(findings: Sequence[Finding], *, middle: str) -> Table:
    """One row for each.

    Args:
        middle: "mean" or "median": what stands for all images.
    """
    read = any(f.scores is not None and f.scores.right is not None for f in findings)
    weighed = any(f.peak is not None for f in findings)
    judged = any(f.said for f in findings)
    found = Table(box=None, pad_edge=False)
    found.add_column(COLUMNS[0], overflow="fold")
    for name in COLUMNS[1:]:
        said = f"{name} {middle}" if name in ("PSNR dB", "SSIM") else name
        found.add_column(said, justify="right")
    if read:
        found.add_column("right", justify="right")
    if weighed:
        found.add_column("peak MiB", justify="right")
    if judged:
        found.add_column("")
    for finding in findings:
        more = [_right(finding.scores)] if read else []
        more += [_peak(finding)] if weighed else []
        more += [finding.said] if judged else []
        found.add_row(*_cells(finding, middle), *more)
    return found


def _cells(finding: Finding, middle: str) -> list[str]:
    scores, timing = finding.scores, finding.timing
    cells = [str(finding.way), str(len(scores)) if scores else "-"]
    if timing is None:
        cells += ["-", "-", "-"]
    else:
        least, ratio, most = timing.speedups
        cells += [f"{timing.median:.3f}", f"{ratio:.2f}x", f"{least:.2f}-{most:.2f}"]
    if scores is None:
        return [*cells, "-", "-", "-", "-"]
    psnr, ssim = Spread.of(scores.psnr), Spread.of(scores.ssim)
    cells += [f"{getattr(psnr, middle):.1f}", f"{psnr.p10:.1f}"]
    return [*cells, f"{getattr(ssim, middle):.4f}", f"{ssim.p10:.4f}"]


def _right(scores: Scores | None) -> str:
    right = share(scores.right) if scores else None
    return "-" if right is None else f"{right:.2f}"


def _peak(finding: Finding) -> str:
    return "-" if finding.peak is None else f"{finding.peak / MIB:.0f}"


def _spread(spread: Spread) -> dict[str, float]:
    return {name: round(getattr(spread, name), 5) for name in ("mean", "median", "p10")}


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
