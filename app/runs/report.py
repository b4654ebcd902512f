"""The report of a run: one HTML file that needs nothing else, save the pictures it links to."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from urllib.parse import quote

from PIL import Image

from .grid import describe_cell
from .pictures import Shown

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 1.5rem auto; max-width: 90rem; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; } img { max-width: 100%; border-radius: 4px; display: block; }
figcaption { font-size: .85rem; } small { opacity: .7; }
td, th { text-align: left; padding: .15rem .8rem .15rem 0; vertical-align: top; }
"""
SIDE = 192  # pixels of a picture in the report
QUIET = ("prompt", "width", "height", "options")  # said elsewhere, or too long


def report(
    title: str,
    facts: Mapping[str, object],
    pictures: Sequence[tuple[Shown, Image.Image]],
    failures: Mapping[str, Sequence[int]],
    links: Sequence[str],
    left_out: int = 0,
) -> str:
    """The HTML text.

    Args:
        facts: what the whole run is known by.
        pictures: those to show.
        failures: the lines of the prompt file that failed, by why.
        links: names of further files in the folder.
        left_out: how many pictures are not shown.
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>",
        _table([(name, str(value)) for name, value in facts.items()]),
        "<p>" + " · ".join(f'<a href="{quote(name)}">{escape(name)}</a>' for name in links),
        *_failures(failures),
        "<h2>Pictures</h2><main>",
        *(_figure(one, small) for one, small in pictures),
        "</main>",
    ]
    if left_out:
        parts.append(f"<p>{left_out} more pictures are in the folder and not shown here.")
    return "\n".join(parts) + "\n"


def _failures(failures: Mapping[str, Sequence[int]]) -> Iterator[str]:
    if failures:
        yield "<h2>Failures</h2>"
        rows = [
            (f"{len(lines)} x", reason, f"line {', '.join(map(str, _some(lines)))}")
            for reason, lines in sorted(failures.items(), key=lambda own: -len(own[1]))
        ]
        yield _table(rows)


def _some(lines: Sequence[int]) -> list[object]:
    known = list(dict.fromkeys(lines))
    return [*known[:20], "..."] if len(known) > 20 else list(known)


def _table(rows: Sequence[Sequence[str]]) -> str:
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def _figure(one: Shown, small: Image.Image) -> str:
    told = {k: v for k, v in one.parameters.items() if k not in QUIET}
    if "width" in one.parameters:
        told["size"] = f"{one.parameters['width']}x{one.parameters.get('height')}"
    settings = describe_cell(tuple(told.items()))
    line, seconds, model = (one.entry.get(name) for name in ("line", "seconds", "model"))
    return (
        f'<figure><a href="{quote(one.file)}"><img src="{_data(small)}" loading=lazy '
        f'width={small.width} height={small.height} alt="{escape(one.prompt)}"></a>'
        f"<figcaption>{escape(one.prompt)}<br><small>{escape(settings)}<br>"
        f"{escape(f'line {line}, {seconds} s, {model}')}</small>"
        "</figcaption></figure>"
    )


def _data(small: Image.Image) -> str:
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def by_cause(failed: Sequence[tuple[int, str]]) -> dict[str, list[int]]:
    """The lines of each reason."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for line, reason in failed:
        found[reason].append(line)
    return dict(found)
