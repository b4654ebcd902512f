"""How a batch ends: the last line and the exit code."""

import pytest

from mindsd.app.batch_progress import BatchLines, BatchTally
from mindsd.app.batch_run import run_batch


def run(work, left=2, **told):
    return run_batch("models/tiny", work, BatchTally(left, 1), BatchLines(), **told)


def test_nothing_is_left(capsys):
    assert run(None, left=0) == 0
    assert capsys.readouterr().err == "0 done, 0 failed, 1 skipped, 0.0 tokens/s\n"


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (1, 1)])
def test_all_is_done(failed, code, capsys):
    tally = BatchTally(2, 1)

    def work(interrupt):
        tally.done, tally.failed = 2 - failed, failed

    assert run_batch("models/tiny", work, tally, BatchLines(), errors="see there") == code
    loading, end = capsys.readouterr().err.splitlines()
    assert loading == "loading tiny" and end.endswith("; see there") == bool(failed)


def test_a_signal_while_it_loads(capsys):
    def work(interrupt):
        raise KeyboardInterrupt

    assert run(work, again="say it again") == 130
    assert capsys.readouterr().err.endswith(
        "cancelled: 0 done, 0 failed, 1 skipped, 2 to do, 0.0 tokens/s; say it again\n"
    )
