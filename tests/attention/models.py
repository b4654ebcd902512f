"""One tiny model of each family, with random weights and an input that it takes."""

from typing import Any

import diffusers
import torch

# Its annotations are those of the default arguments: they allow one level and one scheduler.
dd: Any = diffusers

IMAGE = (2, 4, 8, 8)
TEXT = (2, 6, 16)


def random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def sd():
    model = dd.UNet2DConditionModel(
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
    model = dd.UNet2DConditionModel(
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
    model = dd.SD3Transformer2DModel(
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
    model = dd.FluxTransformer2DModel(
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
    model = dd.PixArtTransformer2DModel(
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
    model = dd.QwenImageTransformer2DModel(
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
    model = dd.ZImageTransformer2DModel(
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
    model = dd.AutoencoderKL(
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
    model = dd.AutoencoderKLWan(base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    return model, (random(1, 3, 1, 16, 16),), {}


ZOO = [sd, sdxl, sd3, flux, pixart, qwen_image, z_image, vae, wan_vae]
