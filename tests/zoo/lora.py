"""LoRA adapters of language models with random weights, made and saved by peft."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def save_adapter(model: Any, folder: Path, seed: int, **options: Any) -> Path:
    """An adapter of rank 4 that changes what the model says; the model stays as it is."""
    given = {"r": 4, "lora_alpha": 16, "target_modules": ATTENTION, "task_type": "CAUSAL_LM"}
    config = LoraConfig(**{**given, "init_lora_weights": False, **options})
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is no checkpoint of the hub
        torch.manual_seed(seed)
        get_peft_model(copy.deepcopy(model), config).save_pretrained(str(folder))
    return folder


def adapted(model: Any, folder: Path) -> Any:
    """peft's own model of it, unmerged."""
    return PeftModel.from_pretrained(copy.deepcopy(model), str(folder)).eval()


def merged(model: Any, folder: Path) -> Any:
    """A model of its own with the adapter in its weights."""
    own: Any = adapted(model, folder)
    return own.merge_and_unload()
