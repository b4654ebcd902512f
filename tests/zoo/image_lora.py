"""LoRAs of diffusers pipelines with random weights: made by peft, saved by diffusers or in the form
of kohya's scripts."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

UNET = """to_q to_k to_v to_out.0 proj_in proj_out ff.net.0.proj ff.net.2 conv1 conv2 conv_shortcut
    conv_in conv_out time_emb_proj downsamplers.0.conv upsamplers.0.conv""".split()
TRANSFORMER = """to_q to_k to_v to_out.0 add_q_proj add_k_proj add_v_proj to_add_out ff.net.0.proj
    ff.net.2 proj_mlp norm1.linear x_embedder context_embedder""".split()
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
TARGETS = {"unet": UNET, "transformer": TRANSFORMER, "text_encoder": TEXT, "text_encoder_2": TEXT}
KOHYA = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
Factors = dict[str, dict[str, Tensor]]  # by component and key


def factors(pipe: Any, seed: int, components: Sequence[str], **options: Any) -> tuple[Any, Any]:
    """lora_A and lora_B of rank 4 for the components, and the modules with them; pipe stays."""
    found: Factors = {}
    modules: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a pattern for one component says nothing of another
        torch.manual_seed(seed)
        for name in components:
            own = copy.deepcopy(getattr(pipe, name))
            given = {"r": 4, "lora_alpha": 4, "target_modules": TARGETS[name], **options}
            own.add_adapter(LoraConfig(init_lora_weights=False, **given), "default")
            weights = get_peft_model_state_dict(own, adapter_name="default")
            # As strong as trained ones are, whatever a layer's width.
            found[name] = {
                k: v.detach() * (0.5 if "lora_B" in k else 1) for k, v in weights.items()
            }
            modules[name] = own
    return found, modules


def save_lora(
    pipe: Any,
    folder: Path,
    seed: int,
    components: Sequence[str],
    *,
    told: bool = False,
    **options: Any,
) -> Path:
    """A folder as diffusers writes it; `told` puts peft's options into it, too."""
    found, modules = factors(pipe, seed, components, **options)
    layers = {
        f"{name}_lora_layers": convert_state_dict_to_diffusers(own) if "text" in name else own
        for name, own in found.items()
    }
    heads = _collate_lora_metadata(modules) if told else {}
    type(pipe).save_lora_weights(folder, **layers, **heads)
    return folder


def save_kohya(
    pipe: Any,
    file: Path,
    seed: int,
    components: Sequence[str],
    alpha: Callable[[str], float | None],
) -> Path:
    """A file of kohya's; `alpha` says one for each module's name, None for none."""
    found, _ = factors(pipe, seed, components)
    weights: dict[str, Tensor] = {}
    for component, own in found.items():
        for key, weight in own.items():
            name, _, half = key.removesuffix(".weight").rpartition(".lora_")
            once = component != "unet" and not name.startswith("text_model.")
            level = "text_model_" if once else ""  # transformers' CLIP had this level once
            stem = f"{KOHYA[component]}{level}{name.replace('.', '_')}"
            weights[f"{stem}.lora_{'down' if half == 'A' else 'up'}.weight"] = weight.contiguous()
            if (told := alpha(name)) is not None:
                weights[f"{stem}.alpha"] = torch.tensor(told)
    save_file(weights, file)
    return file


def adapted(
    build: Callable[[], DiffusionPipeline], loras: Sequence[tuple[Path, float]]
) -> DiffusionPipeline:
    """diffusers' own pipeline with these at once."""
    pipe: Any = build()
    names = [f"lora{place}" for place in range(len(loras))]
    for name, (path, _) in zip(names, loras, strict=True):
        pipe.load_lora_weights(str(path), adapter_name=name)
    pipe.set_adapters(names, [weight for _, weight in loras])
    return pipe
