"""tiny-dit is trained, put together, found and drawn by the stock pipeline: a shrunken one."""

# pyright: reportAttributeAccessIssue=false, reportArgumentType=false

import random

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from mindsd import TextToImage
from mindsd.assets.recipes import dit, evaluate, latents, vae
from mindsd.assets.recipes.captions import caption
from mindsd.assets.recipes.dit_assemble import CALL, assemble, write_folder
from mindsd.assets.recipes.latents import training_scene
from mindsd.assets.recipes.text_encoder import build_text_encoder, token_ids
from mindsd.assets.recipes.tokenizer import build_tokenizer
from mindsd.assets.recipes.training import TrainingOptions
from mindsd.weights.folder import find_model

SIZE = {"width": 32, "heads": 2, "layers": 2}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder in which an autoencoder and a text encoder are untrained, and the DiT made steps."""
    out = tmp_path_factory.mktemp("dit")
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(out / "tokenizer")
    build_text_encoder(tokenizer).save_pretrained(out / "text_encoder")
    vae.build_vae((8, 8, 16)).save_pretrained(out / "vae")
    latents.write_latents(out, first=0, number=24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dit, "BATCH", 4)
        dit.train(TrainingOptions(out, minutes=5, max_steps=2), **SIZE)
        dit.train(TrainingOptions(out, minutes=5, max_steps=3, resume=True), **SIZE)
    return out


@pytest.fixture(scope="module")
def folder(parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "thin-dit"
    write_folder(assemble(parts), out)
    return out


def load(folder):
    absent = dict.fromkeys(find_model(folder).absent)
    return StableDiffusion3Pipeline.from_pretrained(folder, dtype=torch.float32, **absent)


def test_the_stock_pipeline_draws_it_and_it_is_scored(folder):
    pipeline = load(folder)
    scenes = evaluate.held_out_scenes(2)
    pictures = list(evaluate.draw(pipeline, scenes, 2, 2.0, **CALL["options"]))
    assert [picture.shape for picture in pictures] == [(128, 128, 3)] * 2
    assert evaluate.score(scenes, pictures)["every task"]["prompts"] == 2


def test_the_folder_says_how_it_wants_to_be_called(folder):
    found = find_model(folder)
    assert found.pipeline == "StableDiffusion3Pipeline"
    assert found.absent == ("feature_extractor", "image_encoder", "text_encoder_3", "tokenizer_3")
    assert found.defaults.options == {"max_sequence_length": 0}
    with TextToImage.load(folder, device="cpu", dtype="float32") as draw:
        (image,) = draw("a red circle", steps=2, seed=1).images
    call = {"num_inference_steps": 2, "guidance_scale": 3.0, "max_sequence_length": 0}
    generator = torch.Generator().manual_seed(1)
    stock = load(folder)("a red circle", generator=generator, **call).images[0]
    assert image.tobytes() == stock.tobytes()


def test_a_run_that_goes_on_gives_its_averaged_weights(parts):
    """After the last step a checkpoint's average is the finished model."""
    done, half = assemble(parts), assemble(parts, unfinished=True, **SIZE)
    for name in ("transformer", "text_encoder"):
        ours, theirs = (getattr(one, name).state_dict() for one in (done, half))
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_the_pipeline_reads_text_as_training_did(parts, folder):
    pipeline = load(folder)
    words = ["a red circle on a blue background", ""]
    student = dit.load_student(parts, **SIZE)
    student.text_encoder.load_state_dict(pipeline.text_encoder.state_dict())
    told: list[tuple[torch.Tensor, torch.Tensor]] = []
    student.transformer.register_forward_pre_hook(
        lambda _module, given: told.append((given[1], given[2]))
    )
    student(torch.zeros(2, 4, 32, 32), torch.ones(2), token_ids(pipeline.tokenizer, words))
    hidden, nothing, pooled, pooled_nothing = pipeline.encode_prompt(
        words[:1], None, None, max_sequence_length=0
    )
    torch.testing.assert_close(told[0][0], torch.cat([hidden, nothing]))
    torch.testing.assert_close(told[0][1], torch.cat([pooled, pooled_nothing]))


def test_only_the_new_text_layer_learns(parts):
    student = dit.load_student(parts, **SIZE)
    stored = assemble(parts, unfinished=True, **SIZE).text_encoder.float().state_dict()
    learning = dict(student.text_encoder.named_parameters())
    for name, weight in student.text_encoder.state_dict().items():
        moved = not torch.allclose(weight, stored[name], atol=1e-3, rtol=1e-3)
        assert not moved or learning[name].requires_grad, name
    assert {name.split(".")[1] for name, own in learning.items() if own.requires_grad} == {
        "encoder",
        "final_layer_norm",
        "weight",
    }


def test_the_velocity_leads_from_noise_to_the_clean_latents():
    clean, levels = torch.randn(3, 4, 8, 8), torch.tensor([0.0, 0.4, 1.0])
    noisy, velocity = dit.corrupt(clean, levels)
    torch.testing.assert_close(noisy - levels.view(-1, 1, 1, 1) * velocity, clean)


def test_noise_levels_lean_to_noise():
    torch.manual_seed(0)
    levels = dit.sample_noise_levels(4000)
    assert 0 <= levels.min() and levels.max() <= 1
    assert levels.median() == pytest.approx(2 / 3, abs=0.02)  # of an even 1/2, shifted by 2


def test_what_was_not_told_is_not_asked():
    rng = random.Random(0)
    scenes = [training_scene(index)[0] for index in range(3)]
    captions = [caption(scenes[0], rng), "", ""]
    answers = tuple(torch.randn(3, len(names)) for names in dit.NAMES.values())
    cells = torch.randn(3, 64, 18)
    alone = dit.examine(tuple(a[:1] for a in answers), cells[:1], captions[:1], scenes[:1])
    torch.testing.assert_close(dit.examine(answers, cells, captions, scenes), alone)
    assert dit.examine(answers, cells, ["", "", ""], scenes) == 0
