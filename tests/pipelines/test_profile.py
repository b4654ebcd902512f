"""Profiles are written whole, read strictly, and used only for their own model."""

import json
from dataclasses import replace
from typing import Any

import pytest

import mindsd
from mindsd.config import Acceleration
from mindsd.errors import OutputError, RequestError
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.profile import Measured, Profile, check_place
from mindsd.pipelines.text_to_image import TextToImage
from tests.zoo.stable_diffusion import stable_diffusion

PROFILE = Profile(
    model="thin-sd",
    fingerprint="0123456789abcdef",
    device="cpu",
    machine="a CPU",
    dtype="float32",
    steps=12,
    guidance=3.0,
    scheduler=None,
    width=32,
    height=32,
    batch=4,
    bound="ssim>=0.9",
    acceleration=Acceleration.from_json({"step_cache": "interval:2", "guidance_until": 0.8}),
    measured=Measured(16, 2.0, 1.0, 1.9, 2.0, 2.1, 35.5, 30.1, 0.97, 0.95, None, None),
    versions={"mindsd": "0.1.0"},
    date="2026-01-02T03:04:05+00:00",
)


@pytest.fixture
def path(tmp_path):
    PROFILE.write(tmp_path / "p.json")
    return tmp_path / "p.json"


def change(path, **fields):
    told = json.loads(path.read_text())
    told.update(fields)
    path.write_text(json.dumps(told))


def test_what_is_written_is_read(path):
    assert Profile.read(path) == PROFILE
    assert [file.name for file in path.parent.iterdir()] == ["p.json"]


def test_it_replaces_the_one_before(path):
    replace(PROFILE, steps=20).write(path)
    assert Profile.read(path).steps == 20


def test_what_cannot_be_written_leaves_the_one_before(path):
    broken = replace(PROFILE, measured=replace(PROFILE.measured, psnr=float("inf")))
    with pytest.raises(ValueError):
        broken.write(path)
    assert Profile.read(path) == PROFILE
    with pytest.raises(OutputError, match="cannot be written"):
        PROFILE.write(path / "below" / "a.json")
    assert [file.name for file in path.parent.iterdir()] == ["p.json"]


def test_another_model_is_refused_by_both_names(path):
    assert PROFILE.acceleration_for("0123456789abcdef") == PROFILE.acceleration
    with pytest.raises(RequestError) as told:
        PROFILE.acceleration_for("fedcba9876543210")
    for word in ("0123456789abcdef", "fedcba9876543210", "--force", "thin-sd"):
        assert word in str(told.value)
    assert PROFILE.acceleration_for("fedcba9876543210", force=True) == PROFILE.acceleration


def test_what_differs_is_told():
    assert PROFILE.elsewhere(steps=12, guidance=None, dtype="float32") == []
    assert PROFILE.elsewhere(steps=50, scheduler="X") == [
        "steps 12, now 50",
        "scheduler None, now X",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "holds no JSON object, but list"),
        ("{}", "is no profile of mindsd"),
        ('{"format": "mindsd profile", "version": NaN}', "is not JSON (NaN is no number)"),
        ('{"format": "mindsd profile", "version": 2}', "has version 2, and this mindsd reads 1"),
        ('{"format": "mindsd profile", "version": 1}', "acceleration is missing"),
    ],
)
def test_a_file_that_is_no_profile(text, words, path):
    path.write_text(text)
    with pytest.raises(RequestError) as told:
        Profile.read(path)
    assert words in str(told.value) and str(path) in str(told.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"colour": 1}, "colour is unknown"),
        ({"steps": 1.5}, "steps is 1.5 and not a whole number"),
        ({"steps": True}, "steps is True and not a whole number"),
        ({"guidance": "3"}, "guidance is '3' and not a finite number or null"),
        ({"versions": {"a": 1}}, "not an object of texts"),
        ({"measured": []}, "measured is [] and not an object"),
        ({"measured": {}}, "images is missing"),
        ({"acceleration": "fast"}, "acceleration is 'fast' and not an object"),
        ({"acceleration": {"warp": 9}}, "not 'warp'"),
        ({"acceleration": {"guidance_until": 7}}, "guidance_until must be above 0 up to 1, got 7"),
    ],
)
def test_a_broken_profile(fields, words, path):
    change(path, **fields)
    with pytest.raises(RequestError) as told:
        Profile.read(path)
    assert words in str(told.value) and "is broken" in str(told.value)


def test_numbers_too_large_to_be_one(path):
    path.write_text(path.read_text().replace('"psnr": 35.5', '"psnr": 1e999'))
    with pytest.raises(RequestError, match="psnr is inf and not a finite number"):
        Profile.read(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        Profile.read(tmp_path / "none.json")


def test_a_place_is_seen_before_the_work(path, tmp_path):
    check_place(path)
    check_place(tmp_path / "new.json")
    (tmp_path / "other.json").write_text('{"a": 1}')
    with pytest.raises(OutputError, match="is no profile, and would be lost"):
        check_place(tmp_path / "other.json")
    with pytest.raises(OutputError, match="cannot be written"):
        check_place(tmp_path / "nowhere" / "p.json")
    assert {file.name for file in tmp_path.iterdir()} == {"p.json", "other.json"}


def test_a_pipeline_takes_its_own(path):
    pipe = stable_diffusion()
    with TextToImage.load(pipe) as draw:
        with pytest.raises(RequestError, match="tuned for thin-sd"):
            draw.tuned(path)
        assert draw.tuned(path, force=True) == PROFILE.acceleration
        replace(PROFILE, fingerprint=fingerprint(pipe)).write(path)
        asked: dict[str, Any] = {"steps": 12, "seed": 3, "width": 32, "height": 32}
        tuned = draw("a", acceleration=draw.tuned(path), **asked).images[0]
        same = draw("a", acceleration=PROFILE.acceleration, **asked).images[0]
        plain = draw("a", **asked).images[0]
    assert tuned.tobytes() == same.tobytes() != plain.tobytes()


def test_accelerate_takes_its_own(path):
    pipe = stable_diffusion()
    with pytest.raises(RequestError, match="tuned for thin-sd"):
        mindsd.accelerate(pipe, profile=path)
    with pytest.raises(RequestError, match="one of the three"):
        mindsd.accelerate(pipe, speed="fast", profile=path)
    replace(PROFILE, fingerprint=fingerprint(pipe)).write(path)
    plain = dict(vars(pipe.unet))
    with mindsd.accelerate(pipe, profile=path):
        assert "forward" in vars(pipe.unet)
    assert vars(pipe.unet).keys() == plain.keys()
