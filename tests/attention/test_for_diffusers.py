"""Our attention on tiny models of every family: the same output, really ours, then gone."""

import inspect
from typing import Any

import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    AttnProcessorNPU,
    IPAdapterAttnProcessor2_0,
)

from mindsd.attention.cpu import Reference
from mindsd.attention.divert import Diversion
from mindsd.attention.for_diffusers import attach
from mindsd.attention.registry import Registry
from mindsd.errors import RequestError
from tests.attention.models import IMAGE, TEXT, ZOO, dd, flux, random, sd, vae


class Counted(Reference):
    """The reference, so that no result can be torch's own; counts."""

    runs = 0

    def run(self, call):
        self.runs += 1
        return super().run(call)


@pytest.fixture
def sample(request):
    """A tiny model of the zoo with random weights, and a function that runs it."""
    torch.manual_seed(0)
    model, args, kwargs = request.param()
    model.eval()

    def forward():
        with torch.inference_mode():
            out = model(*args, **kwargs).sample
        return torch.cat([part.flatten() for part in out]) if isinstance(out, list) else out

    return model, forward


def processors(model):
    return {name: getattr(m, "processor", None) for name, m in model.named_modules()}


every_model = pytest.mark.parametrize("sample", ZOO, indirect=True, ids=lambda f: f.__name__)


@every_model
def test_the_same_output_and_really_ours(sample):
    model, forward = sample
    plain, before = forward(), processors(model)
    counted = Counted()
    attached = attach(model, Registry([counted]))
    got = forward()
    assert attached.calls >= len(attached.served) > 0
    assert counted.runs > attached.calls  # the self-test ran too
    assert not attached.left and not attached.passed
    assert (got - plain).abs().max() <= 1e-5 * plain.abs().max()
    assert processors(model) == before  # the very objects, while attached too
    attached.remove()
    assert torch.equal(forward(), plain)
    assert processors(model) == before
    assert not any("forward" in vars(module) for module in model.modules())


@every_model
def test_the_shared_registry_is_bit_identical_where_torch_answers(sample):
    model, forward = sample
    plain = forward()
    with attach(model) as attached:
        assert torch.equal(forward(), plain)
    assert attached.calls > 0


@pytest.mark.parametrize("sample", [sd], indirect=True)
def test_attaching_twice_stacks(sample):
    model, forward = sample
    first, second = (attach(model, Registry([Counted()])) for _ in range(2))
    forward()
    assert first.calls == 0 and second.calls > 0
    second.remove()
    second.remove()
    forward()
    assert first.calls > 0
    third = attach(model)
    first.remove()
    forward()
    assert third.calls > 0
    third.remove()
    assert not any("forward" in vars(module) for module in model.modules())


@pytest.mark.parametrize("sample", [sd], indirect=True)
def test_what_cannot_be_served_is_left_by_name(sample):
    model, forward = sample
    name = "mid_block.attentions.0.transformer_blocks.0.attn1"
    model.get_submodule(name).set_processor(AttnProcessor())
    attached = attach(model)
    assert attached.left == {name: "AttnProcessor does not call scaled_dot_product_attention"}
    assert name not in attached.served and attached.served
    plain = forward()
    attached.remove()
    assert torch.equal(forward(), plain)


def test_a_kernel_of_its_own_is_left():
    module: Any = Attention(query_dim=16, heads=2, dim_head=8)
    module.processor = object.__new__(AttnProcessorNPU)  # made without an NPU
    words = "AttnProcessorNPU may call npu_fusion_attention instead of scaled_dot_product_attention"
    assert attach(module).left == {"Attention": words}


def test_a_processor_that_is_a_module_is_served_once():
    processor: Any = IPAdapterAttnProcessor2_0(16, 16, num_tokens=(4,))
    module = Attention(16, cross_attention_dim=16, heads=2, dim_head=8, processor=processor)
    text, picture = random(*TEXT), random(2, 1, 4, 16)

    def forward():
        with torch.inference_mode():
            return module(random(2, 9, 16), encoder_hidden_states=(text, [picture]))

    plain = forward()
    with attach(module, Registry([Counted()])) as attached:
        torch.testing.assert_close(forward(), plain)
    assert attached.served == ("Attention",)
    assert attached.calls == 2  # the text's, and the picture's


@pytest.mark.parametrize("sample", [sd], indirect=True)
def test_a_processor_set_later_is_served(sample):
    model, forward = sample
    with attach(model) as attached:
        forward()
        once = attached.calls
        model.set_attn_processor(AttnProcessor2_0())
        model.fuse_qkv_projections()
        forward()
    assert attached.calls == 2 * once


@pytest.mark.parametrize("sample", [flux], indirect=True)
def test_a_backend_chosen_in_diffusers_is_respected(sample, monkeypatch):
    model, _ = sample
    name = "transformer_blocks.0.attn"
    chosen = attention_dispatch.AttentionBackendName._NATIVE_MATH
    model.get_submodule(name).processor._attention_backend = chosen
    assert attach(model).left == {
        name: "FluxAttnProcessor was set to diffusers' own backend '_native_math'"
    }
    monkeypatch.setattr(attention_dispatch._AttentionBackendRegistry, "_active_backend", chosen)
    assert attach(model).served == ()


@pytest.mark.parametrize("sample", [sd], indirect=True)
def test_training_is_left_to_torch(sample):
    model, _ = sample
    with attach(model) as attached:
        model(random(*IMAGE), 5, random(*TEXT)).sample.sum().backward()
    assert attached.calls == 0
    assert set(attached.passed) == {"gradients are asked for"}
    assert model.conv_in.weight.grad is not None


def test_a_pipeline():
    unet, autoencoder = sd()[0], vae()[0]
    pipe = dd.StableDiffusionPipeline(
        vae=autoencoder,
        unet=unet,
        text_encoder=torch.nn.Linear(2, 2),
        tokenizer=None,
        scheduler=dd.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    attached = attach(pipe)
    assert {name.split(".")[0] for name in attached.served} == {"unet", "vae"}
    assert attached.left == {"text_encoder": "has no attention of diffusers' kind"}
    attached.remove()
    with pytest.raises(RequestError, match="cannot attach attention to a int"):
        attach(3)


# Guards: what diffusers keeps private, or never promised. An upgrade that moves it fails here.


def test_the_dispatchers_default_ends_in_torchs_function():
    native = attention_dispatch.AttentionBackendName.NATIVE
    assert attention_dispatch._AttentionBackendRegistry.get_active_backend()[0] == native
    assert callable(attention_dispatch._AttentionBackendRegistry.get_active_backend()[1])
    counting, q = Diversion(Registry([Counted()])), torch.randn(1, 6, 2, 8)
    for backend in (None, native):
        counting.run(attention_dispatch.dispatch_attention_fn, q, q, q, backend=backend)
    assert counting.calls == 2


def test_the_dispatcher_asks_what_we_can_answer():
    parameters = inspect.signature(attention_dispatch.dispatch_attention_fn).parameters
    assert list(parameters) == [
        "query",
        "key",
        "value",
        "attn_mask",
        "dropout_p",
        "is_causal",
        "scale",
        "enable_gqa",
        "attention_kwargs",
        "backend",
        "parallel_config",
    ]


def test_processors_say_their_backend():
    processor = flux()[0].get_submodule("transformer_blocks.0.attn").processor
    assert processor._attention_backend is None
    for name in ("set_processor", "get_processor", "processor"):
        assert hasattr(
            sd()[0].get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1"), name
        )
