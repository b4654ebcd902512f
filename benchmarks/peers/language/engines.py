# pyright: reportMissingImports=false
"""Each engine as one function, by its own interface and with its own defaults, imported when used.

All take tokens and give the most likely ones, exactly as many as asked for: ends are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from .job import Job

Generate = Callable[[list[list[int]], int], list[list[int]]]


@contextmanager
def transformers(job: Job) -> Iterator[Generate]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(job.threads)
    dtype = getattr(torch, job.settings["dtype"])
    model: Any = AutoModelForCausalLM.from_pretrained(job.weights, dtype=dtype)
    model.generation_config.eos_token_id = None  # with one, it would be kept from being drawn

    def generate(prompts: list[list[int]], number: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        with torch.inference_mode():
            drawn = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=number,
                pad_token_id=0,
            )
        return drawn[:, ids.shape[1] :].tolist()

    yield generate


@contextmanager
def mindsd(job: Job) -> Iterator[Generate]:
    import torch

    from mindsd.pipelines.text_generation import TextGeneration

    torch.set_num_threads(job.threads)
    options: dict[str, Any] = {"speculation": "none", "device": "cpu", **job.settings}
    with TextGeneration.load(job.weights, **options) as llm:

        def generate(prompts: list[list[int]], number: int) -> list[list[int]]:
            results = llm(prompts, max_tokens=number, temperature=0, ignore_eos=True)
            return [list(one.tokens) for one in results]

        yield generate


@contextmanager
def llama_cpp(job: Job) -> Iterator[Generate]:
    from .llama_cpp_batches import Batches

    batches = Batches(job.weights, job.threads)
    yield batches.generate
    batches.close()


@contextmanager
def openvino(job: Job) -> Iterator[Generate]:
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    hints = {"INFERENCE_NUM_THREADS": job.threads, **job.settings}
    pipe = genai.LLMPipeline(job.weights, "CPU", **hints)

    def generate(prompts: list[list[int]], number: int) -> list[list[int]]:
        ids = np.array(prompts, dtype=np.int64)
        given = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        config = genai.GenerationConfig(
            max_new_tokens=number, ignore_eos=True, do_sample=False, apply_chat_template=False
        )
        return [list(one) for one in pipe.generate(given, config).tokens]

    yield generate


@contextmanager
def vllm(job: Job) -> Iterator[Generate]:
    from vllm import LLM, SamplingParams

    llm = LLM(job.weights, max_model_len=1024, enable_prefix_caching=False, **job.settings)

    def generate(prompts: list[list[int]], number: int) -> list[list[int]]:
        told = SamplingParams(temperature=0, max_tokens=number, ignore_eos=True, detokenize=False)
        given: Any = [{"prompt_token_ids": prompt} for prompt in prompts]
        done = llm.generate(given, told, use_tqdm=False)
        return [list(one.outputs[0].token_ids) for one in done]

    yield generate


ENGINES: dict[str, Callable[[Job], AbstractContextManager[Generate]]] = {
    "transformers": transformers,
    "mindsd": mindsd,
    "llama-cpp": llama_cpp,
    "openvino": openvino,
    "vllm": vllm,
}
