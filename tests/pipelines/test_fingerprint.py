"""A model is known again in any dtype, and told from others."""

import copy

import pytest
import torch

from mindsd.errors import RequestError
from mindsd.pipelines.fingerprint import fingerprint
from mindsd.pipelines.text_to_image import TextToImage
from tests.zoo.flux import flux
from tests.zoo.stable_diffusion import stable_diffusion


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_dtype_makes_no_other_model(dtype):
    plain = fingerprint(stable_diffusion())
    assert fingerprint(stable_diffusion().to(dtype)) == plain
    assert len(plain) == 16 and int(plain, 16)


def test_what_float16_rounds_to_nothing_keeps_its_sign():
    pipe = stable_diffusion()
    with torch.no_grad():
        pipe.unet.conv_in.weight.copy_(-torch.full_like(pipe.unet.conv_in.weight, 1e-12))
    plain = fingerprint(pipe)
    assert fingerprint(pipe.to(torch.float16)) == plain


def test_a_memory_format_or_an_engine_makes_no_other_model():
    pipe = stable_diffusion()
    plain = fingerprint(pipe)
    with TextToImage.load(pipe):
        assert fingerprint(pipe) == plain
    pipe.unet.to(memory_format=torch.channels_last)
    assert fingerprint(pipe) == plain


def test_other_weights_are_another_model():
    pipe = stable_diffusion()
    other = copy.deepcopy(pipe.unet)
    with torch.no_grad():
        other.conv_out.weight.neg_()
    plain = fingerprint(pipe)
    pipe.unet = other
    assert fingerprint(pipe) != plain


def test_only_the_denoiser_counts():
    pipe = stable_diffusion()
    plain = fingerprint(pipe)
    with torch.no_grad():
        pipe.vae.decoder.conv_out.weight.neg_()
    assert fingerprint(pipe) == plain


def test_families_differ():
    assert fingerprint(flux()) != fingerprint(stable_diffusion())


def test_weights_that_are_not_in_memory_are_refused():
    pipe = stable_diffusion()
    pipe.unet.to("meta")
    with pytest.raises(RequestError, match="weights of unet are not in memory"):
        fingerprint(pipe)


def test_a_pipeline_without_denoiser_is_refused():
    pipe = stable_diffusion()
    pipe.unet = None
    with pytest.raises(RequestError, match="has no denoiser"):
        fingerprint(pipe)
