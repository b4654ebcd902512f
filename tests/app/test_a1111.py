"""Automatic1111's text: written as they do, read as they and others wrote it."""

import time

import pytest

from mindsd.app.a1111 import read_text, write_text
from mindsd.pipelines.parameters import ImageParameters

FULL = ImageParameters(
    "a red circle",
    negative_prompt="blur, noise",
    steps=20,
    guidance=7.5,
    seed=7,
    width=128,
    height=64,
    strength=0.6,
    scheduler="DPMSolverMultistepScheduler(use_karras_sigmas=True)",
)
PROMPTS = [
    "a red circle",
    "",
    "zwei grüne Sterne",
    "红色的圆 ✨ above a ★",
    "two lines\nof prompt",
    'quoted: "yes", and: commas',
]
BEFORE = "a fox\nNegative prompt: blur\nSteps: 25, "


def test_the_form_is_theirs():
    assert write_text(FULL, "tiny-sd", "mindsd 0.1.0") == (
        "a red circle\n"
        "Negative prompt: blur, noise\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 7, "
        "Size: 128x64, Denoising strength: 0.6, Model: tiny-sd, Version: mindsd 0.1.0"
    )


def test_all_fields_read_back():
    assert read_text(write_text(FULL, "m", "v")) == (FULL, "m", {"Version": "v"})


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_reads_back(prompt):
    asked = ImageParameters(prompt, negative_prompt="x\ny", steps=3, guidance=2.0, seed=1)
    assert read_text(write_text(asked, "a, b: c", "v")) == (asked, "a, b: c", {"Version": "v"})


@pytest.mark.parametrize(
    ("said", "scheduler"),
    [
        ("Sampler: DPM++ 2M Karras", "DPMSolverMultistepScheduler(use_karras_sigmas=True)"),
        (
            "Sampler: DPM++ 2M, Schedule type: Karras",
            "DPMSolverMultistepScheduler(use_karras_sigmas=True)",
        ),
        ("Sampler: Euler a, Schedule type: Automatic", "EulerAncestralDiscreteScheduler"),
        ("Sampler: EulerDiscreteScheduler", "EulerDiscreteScheduler"),
    ],
)
def test_both_ways_to_say_a_schedule_are_read(said, scheduler):
    parameters, _, unknown = read_text(f"{BEFORE}{said}, CFG scale: 7, Seed: 5")
    assert parameters == ImageParameters(
        "a fox", "blur", steps=25, guidance=7.0, seed=5, scheduler=scheduler
    )
    assert unknown == {}


def test_what_has_no_word_here_is_kept_apart():
    said = (
        "Sampler: DPM adaptive, Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 512x768, "
        'Model hash: 6ce0161689, Clip skip: 2, Lora hashes: "a: 1, b: 2", Model: xl'
    )
    parameters, model, unknown = read_text(BEFORE + said)
    assert (parameters.width, parameters.height, parameters.scheduler) == (512, 768, None)
    assert model == "xl" and unknown == {
        "Sampler": "DPM adaptive",
        "Schedule type": "Karras",
        "Model hash": "6ce0161689",
        "Clip skip": "2",
        "Lora hashes": "a: 1, b: 2",
    }


def test_the_strength_of_a_second_pass_is_not_that_of_a_given_picture():
    said = "Sampler: Euler, CFG scale: 7, Seed: 5, Denoising strength: 0.4, Hires upscale: 2"
    parameters, _, unknown = read_text(BEFORE + said)
    assert parameters.strength is None
    assert unknown == {"Denoising strength": "0.4", "Hires upscale": "2"}


@pytest.mark.parametrize(
    "text",
    [
        "a\nSteps: many, Seed: 1, CFG scale: 2",
        'a\nSteps: "\\x", Seed: 1, CFG scale: 2',
        "a\nSteps: 5, Seed: 1, Size: big",
        "a\nSteps: 0, Seed: 1, Size: 8x8",
        f"a\nSteps: {'9' * 5000}, Seed: 1, Size: 8x8",
    ],
)
def test_settings_that_are_no_numbers_are_refused(text):
    with pytest.raises(ValueError):
        read_text(text)


@pytest.mark.parametrize(
    "piece", [" ", "a", '"', '\\"', '"\\', 'a:"', ": ", "a: b, ", 'a: "\\', '",', "\n", "("]
)
def test_no_text_takes_long(piece):
    text = piece * (2**20 // len(piece))
    begun = time.process_time()
    for made in (text, f"{text}\\", f'a: "{text}'):
        try:
            read_text(made)
        except ValueError:
            continue
    assert time.process_time() - begun < 10  # seconds; what is quadratic takes hours


def test_adapters_and_weights_are_read_and_written_as_they_have_them():
    own = ImageParameters("a fox", loras=(("ink", 0.8), ("old-film", -1)), steps=3)
    text = write_text(own, "tiny-sd", "mindsd")
    assert text.startswith("a fox <lora:ink:0.8> <lora:old-film:-1>\n")
    assert read_text(text)[0].loras == own.loras and read_text(text)[0].prompt == "a fox"
    assert read_text("a (red:1.2) fox\nSteps: 3, Seed: 1, Size: 8x8")[0].weighted
    assert not read_text("a red fox\nSteps: 3, Seed: 1, Size: 8x8")[0].weighted
