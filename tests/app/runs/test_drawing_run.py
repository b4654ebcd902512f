from __future__ import annotations

from mindsd.app.runs.asking import Asked
from mindsd.app.runs.company import Company
from mindsd.app.runs.drawing_run import ModelRun, told
from mindsd.app.runs.plan import Job
from mindsd.app.typed_prompt import TypedPrompts
from mindsd.pipelines.loading import load_model
from mindsd.pipelines.parameters import ImageParameters


def test_a_company_begins_together(model):
    jobs = tuple(
        Job(seed, seed, f"k{seed}", Asked("m", ImageParameters("a", steps=2, seed=seed), {}))
        for seed in (1, 2, 3)
    )
    with ModelRun(load_model(model), TypedPrompts()) as run:
        engine = run._pipeline(jobs[0]).engine  # its own, as nobody else uses it
        for _ in range(5):
            with run.held(Company(jobs, frozenset())):
                assert engine.load() == (0, 1)  # the holder is in, and nobody comes beside it
                requests = [run.submit(job) for job in jobs]
                assert engine.load() == (3, 1)
            assert len({request.result(60).size for request in requests}) == 1
        assert engine.counts.forwards["denoise"] == 5 * 2  # every step of every company is one
        assert run.record(jobs[0]).parameters.scheduler == "DDIMScheduler"
        rows = [count for count in engine.counts.rows] if hasattr(engine.counts, "rows") else []
        assert all(count for count in rows)


def test_what_is_open_is_not_told():
    parameters = ImageParameters("a", seed=0, guidance=0.0, options={"eta": 0.5})
    assert told(parameters) == {
        "prompt": "a",
        "seed": 0,
        "guidance": 0.0,
        "options": {"eta": 0.5},
    }
