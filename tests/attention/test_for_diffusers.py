"""Our attention on tiny models of every family: the same output, really ours, then gone."""

import inspect

import diffusers
import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from mindsd.attention.cpu import Reference
from mindsd.attention.divert import Diversion
from mindsd.attention.for_diffusers import attach
from mindsd.attention.registry import Registry
from mindsd.errors import RequestError

IMAGE = (2, 4, 8, 8)
TEXT = (2, 6, 16)


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def sd():
    model = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
    )
    keep = torch.ones(TEXT[:2], dtype=torch.bool)
    keep[1, 3:] = False
    return model, (random(*IMAGE), 5, random(*TEXT)), {"encoder_attention_mask": keep}


def sdxl():
    model = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        transformer_layers_per_block=(1, 2),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=(2, 4),
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )
    added = {"text_embeds": random(2, 32), "time_ids": random(2, 6)}
    return model, (random(*IMAGE), 5, random(*TEXT)), {"added_cond_kwargs": added}


def sd3():
    model = diffusers.SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        out_channels=4,
        pos_embed_max_size=8,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    return model, (random(*IMAGE), random(*TEXT), random(2, 8), torch.tensor([5.0, 7.0])), {}


def flux():
    model = diffusers.FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    )
    ids = {"img_ids": random(9, 3).round(), "txt_ids": torch.zeros(6, 3)}
    given = {"hidden_states": random(2, 9, 4), "encoder_hidden_states": random(*TEXT)}
    rest = {"pooled_projections": random(2, 8), "timestep": torch.tensor([0.5, 0.7])}
    return model, (), given | rest | ids


def pixart():
    model = diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        cross_attention_dim=16,
        caption_channels=16,
        norm_num_groups=4,
        use_additional_conditions=False,
    )
    keep = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    given = {"encoder_hidden_states": random(*TEXT), "encoder_attention_mask": keep}
    rest = {"timestep": torch.tensor([5, 7]), "added_cond_kwargs": {}}
    return model, (random(*IMAGE),), given | rest


def qwen_image():
    model = diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    keep = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    given = {"encoder_hidden_states": random(*TEXT), "encoder_hidden_states_mask": keep}
    rest = {"timestep": torch.tensor([0.5, 0.7]), "img_shapes": [[(1, 4, 4)]] * 2}
    return model, (random(2, 16, 16),), given | rest


def z_image():
    model = diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 4, 8],
        axes_lens=[64, 32, 32],
    )
    images = [random(4, 1, 8, 8), random(4, 1, 8, 4)]
    return model, (images, torch.tensor([0.5, 0.7]), [random(6, 16), random(3, 16)]), {}


def vae():
    model = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
    )
    return model, (random(2, 3, 16, 16),), {}


def wan_vae():
    """Its attention block has no processor and calls torch itself."""
    model = diffusers.AutoencoderKLWan(base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    return model, (random(1, 3, 1, 16, 16),), {}


ZOO = [sd, sdxl, sd3, flux, pixart, qwen_image, z_image, vae, wan_vae]


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
    pipe = diffusers.StableDiffusionPipeline(
        vae=autoencoder,
        unet=unet,
        text_encoder=torch.nn.Linear(2, 2),  # type: ignore[arg-type]
        tokenizer=None,  # type: ignore[arg-type]
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,  # type: ignore[arg-type]
        feature_extractor=None,  # type: ignore[arg-type]
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
    processor = flux()[0].transformer_blocks[0].attn.processor
    assert processor._attention_backend is None
    for name in ("set_processor", "get_processor", "processor"):
        assert hasattr(sd()[0].mid_block.attentions[0].transformer_blocks[0].attn1, name)
