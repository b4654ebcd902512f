"""A language model that was found, to a module of transformers and its tokenizer."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    modeling_gguf_pytorch_utils,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
)
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
from transformers.utils import logging

from mindsd.device import is_out_of_memory
from mindsd.errors import MindsdError, ModelError, OutOfMemory
from mindsd.weights.gguf import GgufFile, check_gguf
from mindsd.weights.gguf_language import check_language
from mindsd.weights.language import CONFIG, LanguageFiles
from mindsd.weights.safe import read_object

SAFE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class GenerationDefaults:
    """What a model says about where its texts end.

    Attributes:
        ends: ids of the tokens that end a text, each below the vocabulary's size; may be empty.
        context: most tokens of prompt and answer together, or None where the model sets no limit.
    """

    ends: tuple[int, ...]
    context: int | None


def load_language_model(
    files: LanguageFiles, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a language model as transformers has it, in eval mode; nothing is printed.

    A GGUF file is unpacked to `dtype`: a model of n weights takes n * `dtype.itemsize` bytes, and
    while it loads about as much again.

    Args:
        files: what `find_language_model` found.
        dtype: of the weights.
        device: where they go.

    Raises:
        ModelError: transformers does not know the model, or the files do not belong together.
        OutOfMemory: it does not fit.
    """
    with quiet():
        try:
            load = _load_folder if files.gguf is None else _load_gguf
            model, tokenizer = load(files, dtype)
            return model.to(device), tokenizer  # pyright: ignore[reportArgumentType]
        except MindsdError:
            raise
        except Exception as error:  # tokenizers raises the bare class for broken files
            if is_out_of_memory(error):
                raise OutOfMemory(f"{files.path} does not fit in {device}'s memory") from error
            raise ModelError(f"{files.path} cannot be loaded: {first_line(error)}") from error


def generation_defaults(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> GenerationDefaults:
    """Where this model's texts end: by its own files' word and its tokenizer's, taken together."""
    config = model.config.get_text_config()
    told = (model.generation_config or config).eos_token_id  # made from config where there is none
    ids = [*(told if isinstance(told, list | tuple) else [told]), tokenizer.eos_token_id]
    ends = tuple(dict.fromkeys(id for id in ids if id is not None and 0 <= id < config.vocab_size))
    context = getattr(config, "max_position_embeddings", None)  # none: recurrent, or ALiBi
    return GenerationDefaults(ends, context if context and context > 0 else None)


def _load_folder(files: LanguageFiles, dtype: torch.dtype) -> tuple[Any, Any]:
    folder = str(files.folder)
    _check_classes(files)
    config = AutoConfig.from_pretrained(folder, **SAFE)
    _check_causal(files, config)
    auto = AutoModelForImageTextToText if files.sees else AutoModelForCausalLM
    found: Any = auto.from_pretrained(
        folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **SAFE
    )
    model, told = found
    _check_complete(files, told)
    return model, AutoTokenizer.from_pretrained(folder, **SAFE)


def _load_gguf(files: LanguageFiles, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load from a folder in which nothing lies, so that only the GGUF file is read."""
    from mindsd.weights.gguf_reader import read_once  # the package gguf may be missing

    gguf = check_gguf(files.path)  # again: it may have changed
    check_language(gguf)
    source: dict[str, Any] = {"gguf_file": str(files.path), **SAFE}
    with TemporaryDirectory() as empty, _uncollected(), read_once():
        config = AutoConfig.from_pretrained(empty, **source)
        _check_size(gguf, config)
        found: Any = AutoModelForCausalLM.from_pretrained(
            empty,
            config=config,
            quantization_config=GgufConfig(dequantize=True),  # else kernels come from the hub
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **source,
        )
        tokenizer = AutoTokenizer.from_pretrained(empty, **source)
    model, told = found
    _check_complete(files, told)
    # A token that the file does not name would be the configuration class's own, say 2.
    model.generation_config.eos_token_id = list(gguf.ends) or None
    return model, tokenizer


def _check_classes(files: LanguageFiles) -> None:
    """Refuse what transformers has no class for, with or without code that comes with the model."""
    config = read_object(files.folder / CONFIG)
    if files.kind not in CONFIG_MAPPING:
        reason = (
            f"its own code (auto_map in {CONFIG}), which is never run"
            if config.get("auto_map")
            else "a newer transformers"
        )
        raise ModelError(
            f"{files.folder} needs {reason}: transformers {transformers.__version__} does not "
            f"know the model type {files.kind!r}"
        )
    told = read_object(files.folder / "tokenizer_config.json")
    kind = str(told.get("tokenizer_class"))
    names = (kind, kind.removesuffix("Fast"), f"{kind}Fast")
    if told.get("auto_map") and not any(map(tokenizer_class_from_name, names)):
        raise ModelError(
            f"{files.folder} needs its own code (auto_map in tokenizer_config.json), which is "
            f"never run: transformers has no tokenizer class {kind!r}"
        )


def _check_causal(files: LanguageFiles, config: Any) -> None:
    if files.sees:
        written = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        encoder = config.is_encoder_decoder or config.get_text_config().is_encoder_decoder
    else:
        written = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        decoder = getattr(config, "is_decoder", False)
        encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not decoder
    if not written or encoder:
        raise ModelError(
            f"{files.folder} holds a model of type {files.kind!r}, which does not write text; "
            "a causal language model is taken"
        )


def _check_complete(files: LanguageFiles, told: dict[str, Any]) -> None:
    """transformers would only warn, and go on with random numbers in their place."""
    if missing := sorted(told["missing_keys"]):
        raise ModelError(
            f"{files.path} lacks {len(missing)} weights, first {missing[0]}; copy it again"
        )


def _check_size(gguf: GgufFile, config: Any) -> None:
    """Refuse a file that holds other weights than the model which transformers makes for it.

    Tensors that its class does not have, say biases, would be passed over, and one that is larger
    by the file's word than in the file would be made in full before it is refused.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    made = sum(weights.numel() for weights in model.parameters())
    left = [name for name in gguf.tensors if name == "output.weight" and config.tie_word_embeddings]
    held = sum(prod(tensor.shape) for name, tensor in gguf.tensors.items() if name not in left)
    if held != made:
        raise ModelError(
            f"{gguf.path} holds {held} weights where {type(model).__name__} of transformers has "
            f"{made}: it would become another model; load the model's .safetensors folder"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no advice from transformers in here, and what was set before after it."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    bar = modeling_gguf_pytorch_utils.tqdm
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    modeling_gguf_pytorch_utils.tqdm = logging.tqdm  # its own takes no notice of the setting
    try:
        yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = bar
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collector in here: the package gguf makes an array of every word and merge.

    Measured on one core, loading SmolLM2-135M takes 8.6 s in place of 13.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its class's name."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
