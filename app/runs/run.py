"""One `mindsd batch` from its order to the exit code."""

from __future__ import annotations

import json
import secrets

from mindsd.errors import MindsdError

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
    tally = RunTally()
    with Interrupt() as interrupt:
        try:
            seed = _seed(order)
            plan = order.plan(seed)
            _foresee(order, _todo(order, plan, read_story(order.output)))
            with RunFolder(order.output, order.shard) as folder:
                begun = folder.seed(order.seed, seed)
                if begun != seed:  # another shard began meanwhile
                    plan = order.plan(begun)
                _tell_wrong(plan, folder, tally, progress)
                _draw(order, plan, folder, tally, progress, interrupt)
                interrupt.on_signal = None
                if with_report:
                    for path in write_overview(folder, plan, order.file, begun):
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
    chosen = order.seed is not None or read_seed(order.output) is not None
    is_chance = not chosen and any(map(leaves_seed_open, order.rows))
    seed = _seed(order)
    plan, story = order.plan(seed), read_story(order.output)
    told = dry_run(plan, _todo(order, plan, story), story, seed, is_chance)
    if as_json:
        print(json.dumps({"event": "plan", **told}))
    else:
        print("\n".join(describe_dry_run(told)))
        for line, reason in plan.wrong.items():
            print(f"line {line} is wrong: {reason}")
    return 1 if plan.wrong else 0


def _seed(order: BatchOrder) -> int:
    """What the run was begun with, else what is asked, else any.

    Raises:
        RequestError, OutputError: the folder was begun with another, or is none of a run.
    """
    begun = read_seed(order.output)
    wished = order.seed if begun is None else begun
    seed = secrets.randbelow(SEEDS) if wished is None else wished
    check_seed(order.output, seed, order.seed)
    return seed


def _foresee(order: BatchOrder, todo: list[Job]) -> None:
    """See, before a folder is made, that there is a model which may be loaded as it is asked.

    Raises:
        ModelError, RequestError: there is none; of several each would fail with its own reason.
    """
    models = dict.fromkeys(job.asked.model for job in todo)
    if not models:
        return
    with heavy_imports():
        from mindsd.pipelines.loading import foresee
    refused: list[MindsdError] = []
    for model in models:
        try:
            foresee(model, order.device, order.dtype, order.attention, order.layers, order.vae)
        except MindsdError as error:
            refused.append(error)
    if len(refused) == len(models):
        raise refused[0]


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
