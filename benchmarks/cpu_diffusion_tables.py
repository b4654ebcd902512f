"""What was measured of models on a CPU, as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from peers.forwards import MODELS
from peers.tables import speedup

OURS = "mindsd"
COLUMNS = ("way", "seconds", "spread", "to {}", "mindsd to it", "of the ceiling", "cosine")


def markdown(report: dict[str, Any]) -> str:
    """All models of one run."""
    told = report["cpu"], f"{report['threads']} threads", report["clock"]
    versions = {f"torch {report['torch']}": None}
    versions |= dict.fromkeys(one for own in report["models"] for one in own["versions"].values())
    lines = [", ".join((*told, *versions, report["dtype"]))]
    for own in report["models"]:
        lines += ["", *_model(own)]
    return "\n".join(lines)


def _model(own: dict[str, Any]) -> Iterator[str]:
    """One table, who is left out, and where the time goes."""
    size, top = own["parameters"] / 1e6, statistics.median(own["ceilings"])
    yield (
        f"{MODELS[own['model']]}: {size:.0f} M parameters, {own['tflop']:.2f} TFLOP; "
        f"a large product of matrices: {top:.3f} TFLOP/s\n"
    )
    first = next(iter(own["seconds"]), "")
    yield " | ".join((*COLUMNS, "greatest error")).format(first)
    yield "|".join(["---"] * (len(COLUMNS) + 1))
    for way in own["seconds"]:
        yield " | ".join(_row(own, way, first, top))
    for way, why in own["left_out"].items():
        yield f"\nleft out: {way}: {why}"
    for way, rows in own["profiles"].items():
        yield f"\n{way}:\n"
        yield from (f"    {one['ms']:8.1f} ms {one['calls']:4} {one['operator']}" for one in rows)


def _row(own: dict[str, Any], way: str, first: str, top: float) -> list[str]:
    """Ratios are medians of those in one round; a share counts the plain model's operations."""
    seconds, apart, ours = own["seconds"][way], own["apart"][way], own["seconds"].get(OURS)
    middle = statistics.median(seconds)
    return [
        way,
        f"{middle:.3g}",
        f"{min(seconds):.3g}-{max(seconds):.3g}",
        f"{speedup(own['seconds'][first], seconds):.2f}x",
        "" if ours is None else f"{speedup(seconds, ours):.2f}x",
        f"{own['tflop'] / middle / top:.0%}",
        f"{apart['cosine']:.5f}",
        f"{apart['greatest']:.1e}",
    ]
