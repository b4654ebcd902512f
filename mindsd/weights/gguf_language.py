"""Which GGUF files become the same language model in transformers as they are in llama.cpp."""

from __future__ import annotations

from mindsd.errors import ModelError
from mindsd.weights.gguf import GgufFile

# As files spell them: what transformers loads from a GGUF as a causal language model. Left out are
# its encoders, deci (a model that it does not have), and qwen35, qwen35moe and lfm2, for which it
# fetches compiled kernels from the hub where the package `kernels` is installed.
ARCHITECTURES = frozenset(
    "bloom falcon gemma2 gemma3 gemma4 gpt-oss gpt2 llama mamba minimax-m2 nemotron phi3 qwen2 "
    "qwen2moe qwen3 qwen3moe stablelm starcoder2".split()
)


def check_language(gguf: GgufFile) -> None:
    """Refuse a sound GGUF file that is no whole language model, or that would become another one.

    Raises:
        ModelError: the file, the reason and the way out.
    """
    path, kind = gguf.path, gguf.architecture
    if kind not in ARCHITECTURES:
        raise ModelError(
            f"{path} holds the architecture {kind!r}, which is not loaded as a language model from "
            f"a GGUF; these are: {', '.join(sorted(ARCHITECTURES))}"
        )
    parts = gguf.values.get("split.count", 1)
    if parts != 1:
        raise ModelError(
            f"{path} is one of {parts} parts; join them first: llama-gguf-split --merge"
        )
    if (scaling := _scaling(gguf)) is not None:
        raise ModelError(
            f"{path} scales its positions by {scaling}, which transformers does not read from a "
            "GGUF, so its texts would be others; load the model's .safetensors folder"
        )
    if not gguf.values.get("tokenizer.ggml.tokens"):
        raise ModelError(f"{path} holds no vocabulary; take a file with tokenizer.ggml.tokens")
    _check_sizes(gguf)


def _scaling(gguf: GgufFile) -> str | None:
    """The name of what stretches rotary positions, or None where nothing does."""
    kind = gguf.values.get(f"{gguf.architecture}.rope.scaling.type", "none")
    if kind != "none":
        return f"rope.scaling.type {kind!r}"
    factors = [name for name in gguf.tensors if name.startswith(("rope_freqs", "rope_factors"))]
    return f"the tensor {factors[0]!r}" if factors else None


def _check_sizes(gguf: GgufFile) -> None:
    """The sizes of which a model is built first and compared with the weights only later."""
    kind = gguf.architecture
    layers = {name.split(".")[1] for name in gguf.tensors if name.startswith("blk.")}
    claimed = gguf.values.get(f"{kind}.block_count")
    if claimed != len(layers):
        raise ModelError(
            f"{gguf.path} claims {claimed} layers and holds {len(layers)}; copy it again"
        )
    words = gguf.values.get(f"{kind}.vocab_size", gguf.values["tokenizer.ggml.tokens"])
    told = (gguf.values.get(f"{kind}.embedding_length"), words)
    embedding = gguf.tensors.get("token_embd.weight")
    if embedding is None or embedding.shape != told:
        held = "none" if embedding is None else embedding.shape
        raise ModelError(
            f"{gguf.path} claims an embedding of (width, words) {told} and holds {held}; "
            "copy it again"
        )
