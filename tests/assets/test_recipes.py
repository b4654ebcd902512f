"""Every training step runs, on tiny settings, from nothing to a folder that is scored."""

# pyright: reportAttributeAccessIssue=false

import random

import pytest
import torch

from mindsd.assets.recipes import denoiser, evaluate, latents, text_encoder, vae
from mindsd.assets.recipes.assemble import assemble
from mindsd.assets.recipes.muon import orthogonalize
from mindsd.assets.recipes.scenes import sample_scene
from mindsd.assets.recipes.training import TrainingOptions

VAE_CHANNELS, UNET_CHANNELS = (8, 8, 16), (8, 8, 16, 16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which every recipe made two steps."""
    out = tmp_path_factory.mktemp("recipes")
    options = TrainingOptions(out, minutes=5, max_steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae, "SCENES", 4)
        patch.setattr(text_encoder, "BATCH", 4)
        patch.setattr(denoiser, "BATCH", 4)
        vae.train(options, VAE_CHANNELS)
        text_encoder.train(options)
        latents.write_latents(out, first=0, number=24)
        denoiser.train(options, UNET_CHANNELS)
        denoiser.train(TrainingOptions(out, 5, resume=True, max_steps=3), UNET_CHANNELS)
    return out


def test_recipes_make_a_pipeline_that_is_scored(trained):
    pipeline = assemble(trained).to(torch.float32)
    scenes = evaluate.held_out_scenes(3)
    pictures = list(evaluate.draw(pipeline, scenes, steps=2, guidance=2.0))
    table = evaluate.score(scenes, pictures)
    assert table["every task"]["prompts"] == 3
    assert "| every task | 3 |" in evaluate.as_markdown(table)


def test_resuming_goes_on_where_the_run_stopped(trained):
    state = torch.load(trained / "denoiser.checkpoint", weights_only=True)
    assert state["step"] == 3


def test_latents_are_standardized(trained):
    found, scenes = latents.read_latents(trained)
    assert found.shape == (24, 4, 32, 32) and len(scenes) == 24
    assert found.float().std() < 3


def test_standardizing_changes_latents_not_pictures():
    torch.manual_seed(0)
    model = vae.build_vae(VAE_CHANNELS).eval()
    pixels = vae.to_model(vae.render_scenes(2, seed=3))
    with torch.no_grad():
        before = model(pixels).sample
        vae.standardize(model, pixels)
        again, after = model.encode(pixels).latent_dist.mode(), model(pixels).sample
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(again.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("shape", [(2, 8, 72), (2, 24, 8)])
def test_muon_makes_orthogonal(shape):
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    assert values.min() > 0.6 and values.max() < 1.3


def test_objects_weigh_more_and_one_on_average():
    weights = denoiser.object_weights(sample_scene(random.Random(1), "single"))
    assert weights.shape == (32, 32)
    assert weights.max() / weights.min() == pytest.approx(denoiser.OBJECT_WEIGHT)
    assert weights.mean().item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"minutes": 0}, {"threads": 0}, {"max_steps": 0}, {"minutes": float("nan")}]
)
def test_impossible_options_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainingOptions(**{"out": tmp_path, "minutes": 1, **wrong})
