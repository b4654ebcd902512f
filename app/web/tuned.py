"""The operator's profiles, as points and as a table: what tuning has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from mindsd.errors import RequestError
from mindsd.pipelines.profile import Profile

MOST = 50
HEAD = ("Profile", "Model", "Bound", "Faster", "Saves", "PSNR", "SSIM", "Steps", "Device")


@dataclass(frozen=True)
class Tuned:
    """A profile and its id."""

    id: str
    profile: Profile

    @property
    def saved(self) -> float:
        """Share of the time that is not taken."""
        return 1 - self.profile.measured.seconds / self.profile.measured.seconds_plain


def read_profiles(files: Mapping[str, Path]) -> list[Tuned]:
    """Those of a shelf; what is no profile is left out."""
    found: list[Tuned] = []
    for id, file in list(files.items())[: 4 * MOST]:
        try:
            profile = Profile.read(file)
        except RequestError:
            continue
        if profile.measured.seconds_plain > 0:
            found.append(Tuned(id, profile))
    return found[:MOST]


def table(profiles: list[Tuned]) -> str:
    """In HTML; empty for none."""
    if not profiles:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in HEAD)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(own))}</tr>"
        for own in profiles
    )
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Profiles of this server">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cells(own: Tuned) -> list[str]:
    profile, measured = own.profile, own.profile.measured
    return [
        own.id,
        profile.model,
        profile.bound,
        f"{measured.speedup:.2f}x",
        f"{own.saved:.0%}",
        f"{measured.psnr:.1f} dB",
        f"{measured.ssim:.4f}",
        str(profile.steps),
        profile.device,
    ]
