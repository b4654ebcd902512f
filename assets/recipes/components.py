"""Connected components of a mask, by runs and union-find."""

import numpy as np

Span = tuple[int, int, int]


def connected_components(mask: np.ndarray) -> list[np.ndarray]:
    """The 4-connected parts of a bool (height, width) mask, each a mask of the same shape."""
    spans: list[Span] = []
    parents: list[int] = []
    above: list[int] = []
    for y, row in enumerate(mask):
        here = []
        for start, end in row_runs(row):
            index = len(spans)
            spans.append((y, start, end))
            parents.append(index)
            here.append(index)
            for other in above:
                if spans[other][1] < end and spans[other][2] > start:
                    parents[root(parents, index)] = root(parents, other)
        above = here
    parts: dict[int, np.ndarray] = {}
    for index, (y, start, end) in enumerate(spans):
        part = parts.setdefault(root(parents, index), np.zeros_like(mask))
        part[y, start:end] = True
    return list(parts.values())


def row_runs(row: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of each run of True in one row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index
