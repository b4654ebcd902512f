"""What is compared with what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .job import Job

MASK = "{mask}"  # in a setting: the leader's whole steps, "1001..."


@dataclass(frozen=True)
class Way:
    """One line of a table."""

    name: str
    tool: str
    settings: dict[str, Any]


PLAIN = Way("plain diffusers", "plain", {})


@dataclass(frozen=True)
class Case:
    """One table.

    Attributes:
        name: as `--only` says it.
        job: what all ways have in common.
        leader: the way whose whole steps the others repeat; it is measured first.
    """

    name: str
    title: str
    job: Job
    ways: list[Way]
    leader: str | None = None

    def asks(self, way: Way, mask: str) -> Job:
        settings = {
            name: value.replace(MASK, mask) if isinstance(value, str) else value
            for name, value in way.settings.items()
        }
        return replace(self.job, tool=way.tool, settings=settings)


def ours(cache: str) -> Way:
    """Our step cache; no step more than the plan says runs whole, and short images are cached, too,
    as peers do it."""
    return Way(f"mindsd {cache}", "mindsd", {"step_cache": f"{cache},last=0,least=1"})


def deepcache(interval: int) -> Way:
    return Way(f"DeepCache every {interval}", "deepcache", {"interval": interval})


def merge(name: str, **settings: Any) -> Way:
    return Way(f"mindsd {name}", "mindsd", {"token_merge": settings})


def cases(job: Job, size: int | None, steps: int | None, threshold: float) -> list[Case]:
    """All of them, in the order in which they run; `size` and `steps` replace their own.

    Args:
        job: threads, dtype and the like; the rest is filled in here.
        threshold: of diffusers' FirstBlockCache.
    """

    def shaped(model: str, own_size: int, own_steps: int, **more: Any) -> Job:
        return replace(job, model=model, size=size or own_size, steps=steps or own_steps, **more)

    sd15, sdxl = shaped("sd15", 512, 10), shaped("sdxl", 512, 10)
    flux, merged = shaped("flux", 512, 10), shaped("sd15", 512, 6)
    fixed = [PLAIN, deepcache(3), ours("interval:3"), deepcache(5), ours("interval:5")]
    first = Way(f"FirstBlockCache {threshold:g}", "first-block-cache", {"threshold": threshold})
    blocks = [
        first,
        PLAIN,
        Way("cache-dit F1B0, same steps", "cache-dit", {"mask": MASK}),
        replace(ours(f"plan:{MASK}"), name="mindsd plan, same steps"),
    ]
    finest = (merged.size // 8) ** 2  # tokens at the latents' own resolution
    tokens = [
        PLAIN,
        Way("tomesd 0.5", "tomesd", {"ratio": 0.5, "max_downsample": 1}),
        merge("match 0.5, same layers", ratio=0.5, tokens=finest),
        Way("tomesd 0.5, two resolutions", "tomesd", {"ratio": 0.5, "max_downsample": 2}),
        merge("match 0.5, two resolutions", ratio=0.5, tokens=finest // 4),
        merge("downsample, two resolutions", way="downsample", tokens=finest // 4),
    ]
    once = {"guided": True, "timed": False}
    keeping = [deepcache(3), ours("interval:3")]
    return [
        Case("sd15", "SD1.5's UNet, step caches", sd15, fixed),
        Case("sdxl", "SDXL's UNet, step caches", sdxl, fixed),
        Case("dit", "Flux-shaped, step caches", flux, blocks, first.name),
        Case("tome", "SD1.5's UNet, token merging", merged, tokens),
        Case("memory", "SD1.5's UNet, kept", replace(sd15, steps=1, **once), keeping),
        Case(
            "memory",
            "SDXL's UNet, kept",
            replace(shaped("sdxl", 1024, 1), steps=1, **once),
            keeping,
        ),
    ]
