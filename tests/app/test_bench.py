"""A bench lays every way side by side."""

import pytest

from mindsd.pipelines.bench import ways
from mindsd.pipelines.measure import Measure

SMALL = ("--steps", 3, "--images", 2, "--batch", 2, "--rounds", 1)


@pytest.fixture
def bench(mindsd, model):
    return lambda *more: mindsd("bench", "--model", model, "--size", "32x32", *SMALL, *more)


def test_a_row_for_each_way(bench):
    run = bench()
    assert run.code == 0
    head, *rows = run.lines
    assert "SSIM median" in head and "right" not in head
    told = [row.split("  ")[0] for row in rows]
    assert told == [str(way) for way in ways(3)]
    assert "1.00x" in rows[0] and "100.0" in rows[0]
    assert "peak memory: growth of the process" in run.err


def test_json_tells_all_and_nothing_else(bench):
    run = bench("--json")
    assert (run.code, run.err) == (0, "")
    found = [event for event in run.events if event["event"] == "found"]
    assert [event["way"] for event in found] == [str(way) for way in ways(3)]
    plain = found[0]
    assert plain["psnr"] == {"mean": 100, "median": 100, "p10": 100} and plain["stage"] == "bench"
    assert plain["speedup"] == [1, 1, 1] and plain["seconds"] > 0 and plain["right"] is None
    assert run.events[-1] == {"event": "done", "profile": None, "cancelled": False}


def test_what_leaves_out_no_step_is_said_once(bench):
    said = "in 3 steps none is left out by --speed quality, --speed balanced, --speed fast, "
    assert bench().err.count(said) == 1
    assert "is left out by" not in bench("--steps", 24).err


def test_the_embedded_models_images_are_read(mindsd):
    run = mindsd("bench", *SMALL, "--json")
    found = [event for event in run.events if event["event"] == "found"]
    assert all(0 <= event["right"] <= 1 for event in found)
    assert {event["right_plain"] for event in found} == {found[0]["right"]}


def test_what_the_model_cannot_do_is_said(mindsd, tmp_path):
    from tests.zoo.flux import flux

    flux().save_pretrained(tmp_path / "thin-flux")
    run = mindsd("bench", "--model", tmp_path / "thin-flux", "--size", "32x32", *SMALL)
    assert run.code == 0 and "--token-merge" not in run.out
    said = "--token-merge downsample was passed over: no token merging for FluxTransformer2DModel"
    assert said in run.err and "--step-cache interval:" in run.out


def test_ctrl_c_prints_what_is_known(bench, monkeypatch):
    def stop(self, ways):
        raise KeyboardInterrupt

    monkeypatch.setattr(Measure, "timings", stop)
    run = bench()
    assert run.code == 130 and len(run.lines) == len(ways(3)) + 1


def test_mistakes_before_anything_is_loaded(bench, monkeypatch):
    monkeypatch.setattr("mindsd.app.commands.bench._run", None)
    run = bench("--images", 0)
    assert (run.code, run.out, run.err) == (2, "", "mindsd: --images must be 1 to 10000, got 0\n")
