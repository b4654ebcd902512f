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


def layers_off(way: Way) -> Way:
    """One of ours with the model's own layers and attention: what is left out, and nothing else."""
    return replace(way, name=f"{way.name}, layers off", settings={**way.settings, "layers": "off"})


def deepcache(interval: int) -> Way:
    return Way(f"DeepCache every {interval}", "deepcache", {"interval": interval})


def merge(name: str, **settings: Any) -> Way:
    return Way(f"mindsd {name}", "mindsd", {"token_merge": settings})


def step_caches() -> list[Way]:
    """Fixed plans, every third and every fifth step whole."""
    third, fifth = ours("interval:3"), ours("interval:5")
    return [PLAIN, deepcache(3), third, layers_off(third), deepcache(5), fifth, layers_off(fifth)]


def block_caches(leader: Way) -> list[Way]:
    """The steps that the leader ran whole, repeated by the others."""
    own = replace(ours(f"plan:{MASK}"), name="mindsd plan, same steps")
    dbcache = Way("cache-dit F1B0, same steps", "cache-dit", {"mask": MASK})
    return [leader, PLAIN, dbcache, own, layers_off(own)]


def token_merges(finest: int) -> list[Way]:
    """Half of the tokens, where there are `finest` of them; then at half that side as well."""
    half = merge("match 0.5, one resolution", ratio=0.5, tokens=finest)
    return [
        PLAIN,
        Way("tomesd 0.5, one resolution", "tomesd", {"ratio": 0.5, "max_downsample": 1}),
        half,
        layers_off(half),
        Way("tomesd 0.5, two resolutions", "tomesd", {"ratio": 0.5, "max_downsample": 2}),
        merge("match 0.5, two resolutions", ratio=0.5, tokens=finest // 4),
        merge("downsample, two resolutions", way="downsample", tokens=finest // 4),
    ]


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
    first = Way(f"FirstBlockCache {threshold:g}", "first-block-cache", {"threshold": threshold})
    merges = token_merges((merged.size // 8) ** 2)  # at the latents' own resolution
    kept = {"steps": 4, "guided": True, "timed": False}  # 1001: two whole, so there is a slope
    keeping = [deepcache(3), ours("interval:3,order=0"), ours("interval:3")]
    return [
        Case("sd15", "SD1.5's UNet, step caches", sd15, step_caches()),
        Case("sdxl", "SDXL's UNet, step caches", sdxl, step_caches()),
        Case("dit", "Flux-shaped, step caches", flux, block_caches(first), first.name),
        Case("tome", "SD1.5's UNet, token merging", merged, merges),
        Case("memory", "SD1.5's UNet, kept", replace(sd15, **kept), keeping),
        Case("memory", "SDXL's UNet, kept", replace(shaped("sdxl", 1024, 4), **kept), keeping),
    ]
