from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mindsd.app.runs import plan as plan_module
from mindsd.app.runs.asking import Asking
from mindsd.app.runs.grid import parse_grid
from mindsd.app.runs.plan import Plan, Planner
from mindsd.app.runs.prompt_file import Row
from mindsd.app.runs.wildcards import Wildcards
from mindsd.errors import ModelError, RequestError
from mindsd.pipelines.shelf import lora_files


def make(
    *rows: dict,
    grid=(),
    combine=False,
    seed=1,
    dtype="auto",
    folder=Path(),
    loras=None,
    weighted=None,
    **defaults,
):
    asking = Asking({"model": "tiny-sd", **defaults}, folder)
    how = (combine, seed, dtype, {} if loras is None else lora_files(loras), weighted)
    planner = Planner(asking, parse_grid(grid), Wildcards(), *how)
    return planner.plan([Row(line, row) for line, row in enumerate(rows, 1)])


def keys(plan: Plan) -> list[str]:
    return [job.key for job in plan.jobs]


def asked(plan: Plan, *names: str) -> list[tuple]:
    return [tuple(getattr(job.asked.parameters, name) for name in names) for job in plan.jobs]


def test_rows_stand_over_the_command_line():
    plan = make(
        {"prompt": "a", "seed": 3},
        {"prompt": "b", "seed": 4, "steps": 5, "scheduler": "Euler a", "size": "64x32"},
        {"prompt": "c", "seed": 5, "width": 48, "speed": "fast", "guidance_until": 0.5},
        steps=9,
        size="16",
    )
    assert asked(plan, "prompt", "seed", "steps", "width", "height") == [
        ("a", 3, 9, 16, 16),
        ("b", 4, 5, 64, 32),
        ("c", 5, 9, 48, None),
    ]
    assert plan.jobs[1].asked.parameters.scheduler == "EulerAncestralDiscreteScheduler"
    assert plan.jobs[2].asked.parameters.acceleration.guidance_until == 0.5
    assert plan.jobs[2].asked.parameters.acceleration.step_cache is not None


def test_fields_of_parameters_come_through_by_name():
    plan = make({"prompt": "a", "seed": 3, "options": {"eta": 0.5}, "weighted": True})
    assert asked(plan, "options", "weighted") == [({"eta": 0.5}, True)]


def test_a_wrong_row_is_told_and_the_others_planned():
    plan = make(
        {"prompt": "a", "steps": 0},
        {"prompt": "b", "width": 8, "size": "8"},
        {"prompt": "c", "model": "no-such"},
        {"prompt": "d", "n": 0},
        {"prompt": "e", "seed": -2},
        {"prompt": "f", "mask": "none.png"},
        {"prompt": "g", "image": "none.png"},
        {"prompt": "h", "n": 10_001},
        {"prompt": "i", "guidance": float("nan")},
        {"prompt": "j"},
    )
    assert [job.asked.parameters.prompt for job in plan.jobs] == ["j"]
    told = list(plan.wrong.values())
    assert told[0] == "steps must be 1 to 1000, got 0"
    assert told[1] == "the row says size and width, one of the two"
    assert told[2].startswith("no model 'no-such'")
    assert told[3] == "n must be a whole number of at least 1, got 0"
    assert told[4].startswith("seed must be 0 to") and told[4].endswith("got -2")
    assert told[5].startswith("--mask needs --image")
    assert told[6].startswith("there is no picture at none.png")
    assert told[7].startswith("the row asks for over 10000 images")
    assert told[8] == "guidance must be a finite number, got nan"


def test_a_wrong_default_is_refused_at_once():
    with pytest.raises(RequestError, match="steps must be 1 to 1000"):
        make({"prompt": "a"}, steps=0)
    with pytest.raises(ModelError, match="no model 'none'"):
        make({"prompt": "a"}, model="none")


def test_keys_know_what_decides_an_image():
    row = {"prompt": "a", "seed": 1}
    changes = [{"prompt": "b"}, {"seed": 2}, {"steps": 9}, {"size": "64"}, {"speed": "fast"}]
    changes += [{"negative_prompt": ""}, {"options": {"eta": 1.0}}, {"model": "tiny-dit"}]
    found = {keys(make({**row, **change}))[0] for change in [{}, *changes]}
    assert len(found) == 1 + len(changes)
    assert keys(make(row, dtype="float16")) != keys(make(row))
    assert keys(make(row, seed=2)) == keys(make(row))  # the run's seed is for rows without


def test_keys_know_what_a_picture_holds(tmp_path):
    (tmp_path / "there").mkdir()
    file, row = tmp_path / "p.png", {"prompt": "a", "seed": 1, "image": "p.png"}
    Image.new("RGB", (16, 16), "red").save(file)
    Image.new("RGB", (16, 16), "red").save(tmp_path / "there" / "p.png")
    red = keys(make(row, folder=tmp_path))
    assert red == keys(make(row, folder=tmp_path / "there"))
    Image.new("RGB", (16, 16), "blue").save(file)
    assert red != keys(make(row, folder=tmp_path))


def test_order_and_company_change_no_key():
    rows = [{"prompt": "a"}, {"prompt": "b", "n": 3}, {"prompt": "{x|y}", "n": 2}, {"prompt": "a"}]
    found = keys(make(*rows))
    assert len(set(found)) == 7
    assert sorted(keys(make(*reversed(rows)))) == sorted(found)
    assert set(found) < set(keys(make({"prompt": "new"}, *rows, {"prompt": "b"})))


def test_doubles_are_two_images():
    row = {"prompt": "a", "seed": 4}
    plan = make(row, row)
    assert asked(plan, "seed") == [(4,), (4,)] and len(set(keys(plan))) == 2


def test_seeds_of_rows_without_are_the_runs():
    rows = [{"prompt": "a"}, {"prompt": "a", "steps": 4}, {"prompt": "a"}, {"prompt": "b"}]
    rows += [{"prompt": "a", "seed": -1, "steps": 7}]
    [a, steps, again, b, minus] = [seed for (seed,) in asked(make(*rows), "seed")]
    assert a == steps == minus and len({a, again, b}) == 3
    assert asked(make(*rows, seed=2), "seed")[0] != (a,)
    assert asked(make({"prompt": "a", "n": 2}), "seed") == [(a,), (again,)]
    assert asked(make({"prompt": "a", "n": 2, "seed": 9}), "seed") == [(9,), (10,)]


def test_a_grid_keeps_the_seed():
    plan = make({"prompt": "{a|b}", "n": 2}, grid=["steps=4,8", "guidance=1,2"])
    parameters = asked(plan, "prompt", "seed", "steps", "guidance")
    assert [own[2:] for own in parameters] == [(4, 1.0), (4, 2.0), (8, 1.0), (8, 2.0)] * 2
    assert len({own[:2] for own in parameters[:4]}) == len({own[:2] for own in parameters[4:]}) == 1
    assert len({job.family for job in plan.jobs}) == 2
    assert make({"prompt": "a", "steps": 3}, grid=["steps=4,8"]).wrong == {
        1: "the row says steps, and so does --grid; one of the two"
    }


def test_combinations_are_all():
    plan = make({"prompt": "{a|b} {c|d}", "n": 2, "seed": 5}, combine=True)
    assert asked(plan, "prompt", "seed") == [
        (prompt, 5 + place)
        for place, prompt in enumerate(
            ["a c", "a c", "a d", "a d", "b c", "b c", "b d", "b d"],
        )
    ]


def test_names_are_plain_and_known_by_their_keys():
    job = make({"prompt": "../A <b>Röd</b> fox & " + "x" * 300, "seed": 1}).jobs[0]
    assert job.name.startswith("0001-a-b-r-d-b-fox-xxx") and job.name.endswith(f"-{job.key}.png")
    assert len(job.name) < 80
    assert make({"prompt": "狐", "seed": 1}).jobs[0].name.startswith("0001-image-")


def test_too_many_images_are_refused(monkeypatch):
    monkeypatch.setattr(plan_module, "MOST", 3)
    with pytest.raises(RequestError, match="over 3 images; split the prompt file"):
        make({"prompt": "a", "n": 2}, {"prompt": "b", "n": 2})


def test_adapters_and_weights_are_part_of_what_an_image_is(tmp_path):
    (tmp_path / "ink.safetensors").write_bytes(b"one")
    row = {"prompt": "a <lora:ink:0.8>", "seed": 1}
    first = keys(make(row, loras=tmp_path))
    assert (
        first == keys(make(row, loras=tmp_path)) != keys(make(row, loras=tmp_path, weighted=True))
    )
    (tmp_path / "ink.safetensors").write_bytes(b"two")
    assert keys(make(row, loras=tmp_path)) != first
    assert "--loras names their folder" in make(row).wrong[1]
    assert "there are: ink" in make({"prompt": "a", "loras": {"inc": 1}}, loras=tmp_path).wrong[1]
