"""What was done: forwards of modules, and tokens of language models."""

from __future__ import annotations

from dataclasses import dataclass, field

from mindsd.batching.call import Call


@dataclass
class Counts:
    """What the engine has done.

    Attributes:
        forwards, rows: forwards that succeeded and their rows, by kind of work.
        spared: rows of a denoiser's calls that were forecast in place of being computed.
        splits: groups that were halved because memory ran out.
    """

    forwards: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    spared: int = 0
    splits: int = 0

    def add(self, calls: list[Call]) -> None:
        kind = calls[0].batchable.kind
        self.forwards[kind] = self.forwards.get(kind, 0) + 1
        self.rows[kind] = self.rows.get(kind, 0) + sum(call.rows for call in calls)


@dataclass
class TokenCounts:
    """What a runner has done.

    Attributes:
        forwards: of the model.
        computed: tokens that went through it, drafts included.
        drawn: tokens drawn.
        drafted, accepted: tokens proposed, and those of them that were right.
        preempted: sequences that lost their blocks.
    """

    forwards: int = 0
    computed: int = 0
    drawn: int = 0
    drafted: int = 0
    accepted: int = 0
    preempted: int = 0
