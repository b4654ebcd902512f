"""One `mindsd batch` from its order to the exit code."""

from __future__ import annotations

import json
import secrets

from ..interrupt import EXIT_CODE, Interrupt
from ..libraries import heavy_imports
from .company import companies
from .dry_run import describe_dry_run, dry_run
from .order import BatchOrder
from .overview import write_overview
from .plan import SEEDS, Job, Plan, leaves_seed_open
from .progress import Quiet, RunTally
from .run_folder import RunFolder, Story, check_seed, read_seed, read_story


def run(order: BatchOrder, progress: Quiet, with_report: bool) -> int:
    """Draw what is not there yet and tell how it went; the exit code.

    Raises:
        RequestError, ModelError, OutputError: the order as a whole is wrong, or the disk is full.
    """
    assert order.rows and order.asking  # what is wrong is told before anything is made
    tally = RunTally()
    with RunFolder(order.output, order.shard) as folder, Interrupt() as interrupt:
        try:
            seed = folder.seed(order.seed)
            plan = order.plan(seed)
            _tell_wrong(plan, folder, tally, progress)
            _draw(order, plan, folder, tally, progress, interrupt)
            interrupt.on_signal = None
            if with_report:
                for path in write_overview(folder, plan, order.file, seed):
                    progress.made(path)
        except KeyboardInterrupt:
            tally.stopping = True
    progress.ended(tally)
    if tally.stopping:
        return EXIT_CODE
    return 1 if tally.failed or tally.wrong else 0


def rehearse(order: BatchOrder, as_json: bool) -> int:
    """Say what a run would do; the exit code.

    Raises:
        RequestError, ModelError, OutputError: the order as a whole is wrong.
    """
    begun = read_seed(order.output)
    is_chance = begun is None and order.seed is None and any(map(leaves_seed_open, order.rows))
    seed = order.seed if begun is None else begun
    if seed is None:
        seed = secrets.randbelow(SEEDS)
    check_seed(order.output, seed, order.seed)
    plan, story = order.plan(seed), read_story(order.output)
    told = dry_run(plan, _todo(order, plan, story), story, seed, is_chance)
    if as_json:
        print(json.dumps({"event": "plan", **told}))
    else:
        print("\n".join(describe_dry_run(told)))
        for line, reason in plan.wrong.items():
            print(f"line {line} is wrong: {reason}")
    return 1 if plan.wrong else 0


def _own(order: BatchOrder, plan: Plan) -> list[Job]:
    """The jobs of this shard."""
    return plan.jobs[order.shard.index - 1 :: order.shard.count]


def _todo(order: BatchOrder, plan: Plan, story: Story) -> list[Job]:
    """The jobs to draw now."""
    missing = [job for job in _own(order, plan) if job.key not in story.done]
    return missing[: order.limit]


def _tell_wrong(plan: Plan, folder: RunFolder, tally: RunTally, progress: Quiet) -> None:
    tally.wrong = len(plan.wrong)
    for line, reason in plan.wrong.items():
        folder.wrong(line, reason)
        tally.causes[reason] += 1
        progress.failed(line, reason)


def _draw(
    order: BatchOrder,
    plan: Plan,
    folder: RunFolder,
    tally: RunTally,
    progress: Quiet,
    interrupt: Interrupt,
) -> None:
    todo, story = _todo(order, plan, folder.story), folder.story
    tally.images = len(todo)
    tally.skipped = sum(job.key in story.done for job in _own(order, plan))
    if not todo:
        return
    missing = [job.key for job in todo]
    groups = companies(plan.jobs, missing, story.interrupted, order.together)
    with heavy_imports():
        from .drawing_run import DrawingRun
    DrawingRun(order, folder, tally, progress).run(groups, interrupt)
