"""A GGUF header is read without believing it."""

import random
import struct
import tracemalloc

import pytest

from mindsd.errors import ModelError
from mindsd.weights.gguf import BLOCKS, check_gguf
from mindsd.weights.gguf_language import ARCHITECTURES, check_language
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer, write_gguf

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokenizer = tiny_tokenizer()
    write_gguf(path, tiny_llama(len(tokenizer)), tokenizer)
    return path


def text(value):
    return struct.pack("<Q", len(value)) + value


def pair(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


ARCH = pair(b"general.architecture", 8, text(b"llama"))


def tensor(name=b"a", shape=(8,), kind=0, start=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, start)


def file_of(path, pairs=(ARCH,), tensors=(), data=0, version=3, counts=None):
    counts = counts or (len(tensors), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(data))
    return path


def test_what_a_sound_file_says(written):
    found, reader = check_gguf(written), gguf.GGUFReader(written)
    assert found.architecture == "llama" and found.ends == (1,)
    assert found.values["llama.embedding_length"] == 16
    assert found.values["tokenizer.ggml.tokens"] == len(tiny_tokenizer())
    assert {t.name: (tuple(t.shape), t.n_bytes, t.data_offset) for t in reader.tensors} == {
        name: (t.shape, t.size, reader.data_offset + t.start) for name, t in found.tensors.items()
    }
    check_language(found)


def test_every_end_is_told_once(tmp_path):
    ends = [(b"eos", 7), (b"eot", 9), (b"eom", 7)]
    keys = [pair(b"tokenizer.ggml.%s_token_id" % k, 4, struct.pack("<I", i)) for k, i in ends]
    assert check_gguf(file_of(tmp_path / "a.gguf", [ARCH, *keys])).ends == (7, 9)


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"version": 1}, "version 1, only 2 and 3"),
        ({"version": 3 << 24}, "big-endian"),
        ({"counts": (2**60, 1)}, f"claims {2**60} tensors and 1 keys"),
        ({"counts": (0, 2**40)}, f"claims 0 tensors and {2**40} keys"),
        ({"counts": (50_000, 1)}, "has 0 dimensions"),
        ({"pairs": ()}, "names no general.architecture"),
        ({"pairs": (ARCH, ARCH)}, "'general.architecture' is there twice"),
        ({"pairs": (struct.pack("<Q", 2**62),)}, f"claims {2**62} bytes"),
        ({"pairs": (struct.pack("<Q", 2**24),)}, "the file ends at byte 32"),
        ({"pairs": (pair(b"\xff", 4, b"abcd"),)}, "is no UTF-8"),
        ({"pairs": (pair(b"k", 9, struct.pack("<IQ", 8, 1) + text(b"\xff")),)}, "'k' is no UTF-8"),
        ({"pairs": (pair(b"k", 99, b""),)}, "'k' has the unknown type 99"),
        ({"pairs": (pair(b"k", 9, struct.pack("<IQ", 6, 2**61)),)}, f"claims {2**61} elements"),
        ({"pairs": (pair(b"k", 9, struct.pack("<IQ", 8, 2**22)),)}, "ends at byte"),
        ({"pairs": (pair(b"k", 9, struct.pack("<IQ", 10, 2**22)),)}, "ends at byte"),
        ({"pairs": (pair(b"k", 9, struct.pack("<IQ", 9, 1)),)}, "array of the type 9"),
        ({"pairs": (ARCH, pair(b"general.alignment", 4, struct.pack("<I", 3)))}, "alignment 3"),
        ({"tensors": (tensor(shape=()),)}, "0 dimensions"),
        ({"tensors": (tensor(shape=(1,) * 5),)}, "5 dimensions"),
        ({"tensors": (tensor(kind=9),)}, "ggml's type 9, which cannot be unpacked"),
        ({"tensors": (tensor(shape=(33,), kind=2),)}, "does not divide into blocks of 32"),
        ({"tensors": (tensor(shape=(8, 0)),)}, "does not divide"),
        ({"tensors": (tensor(),), "data": 31}, "'a' would end at byte 160, the file at byte 159"),
        ({"tensors": (tensor(start=2**63),), "data": 32}, f"end at byte {2**63 + 160}"),
        ({"tensors": (tensor(shape=(2**40, 2**40)),), "data": 32}, f"end at byte {2**82 + 128}"),
        ({"tensors": (tensor(), tensor(b"b")), "data": 64}, "'b' begins at byte 160, within"),
        ({"tensors": (tensor(), tensor()), "data": 64}, "the tensor 'a' is there twice"),
    ],
)
def test_a_lie_is_named(tmp_path, parts, message):
    with pytest.raises(ModelError, match=message):
        check_gguf(file_of(tmp_path / "lie.gguf", **parts))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_gguf_at_all(tmp_path, content):
    (tmp_path / "no.gguf").write_bytes(content)
    with pytest.raises(ModelError, match="is no GGUF file"):
        check_gguf(tmp_path / "no.gguf")
    with pytest.raises(ModelError, match="cannot be read"):
        check_gguf(tmp_path / "nowhere.gguf")


def test_flipped_and_missing_bytes_never_do_more_than_refuse(written, tmp_path):
    """Four hundred broken headers: a ModelError or a file whose numbers still agree."""
    whole, chance, path = written.read_bytes(), random.Random(0), tmp_path / "broken.gguf"
    header = len(whole) - sum(t.size for t in check_gguf(written).tensors.values())
    refused = 0
    tracemalloc.start()
    for _ in range(400):
        broken = bytearray(whole)
        for _ in range(chance.choice([1, 1, 4, 16])):
            broken[chance.randrange(header)] = chance.choice(
                [0, 1, 127, 255, chance.randrange(256)]
            )
        cut = chance.choice([len(broken), len(broken), chance.randrange(len(broken))])
        path.write_bytes(broken[:cut])
        try:
            check_language(check_gguf(path))
        except ModelError:
            refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100 < refused < 400 and peak < 5e6


def test_block_sizes_are_those_of_ggml():
    unpacked = {kind for kind in gguf.GGMLQuantizationType if kind in gguf.quants._type_traits}
    plain = {gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16}
    known = {int(kind): gguf.GGML_QUANT_SIZES[kind] for kind in unpacked | plain}
    assert BLOCKS.items() <= known.items()


def test_architectures_are_those_of_transformers():
    from transformers.integrations.gguf import GGUF_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    ours = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}
    kinds = {ours.get(kind, kind.replace("-", "_")) for kind in ARCHITECTURES}
    assert kinds <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    left = {"general", "tokenizer", "mistral", "lfm2", "t5", "umt5", "deci"}  # no file says mistral
    assert kinds | left == set(GGUF_SUPPORTED_ARCHITECTURES)
    assert not kinds & set(GGUF_ARCHS)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: w.add_string("llama.rope.scaling.type", "yarn"), "rope.scaling.type 'yarn'"),
        (lambda w: w.add_uint16("split.count", 3), "is one of 3 parts"),
        (lambda w: w.add_uint32("llama.vocab_size", 5), r"\(16, 5\) and holds \(16, 280\)"),
    ],
)
def test_a_sound_file_that_would_become_another_model(tmp_path, change, message):
    tokenizer = tiny_tokenizer()
    write_gguf(tmp_path / "a.gguf", tiny_llama(len(tokenizer)), tokenizer, change)
    with pytest.raises(ModelError, match=message):
        check_language(check_gguf(tmp_path / "a.gguf"))


def test_positions_stretched_by_a_tensor(written, tmp_path):
    import numpy

    tokenizer = tiny_tokenizer()
    factors = numpy.ones(2, numpy.float32)
    model = tiny_llama(len(tokenizer))
    add = lambda writer: writer.add_tensor("rope_freqs.weight", factors)  # noqa: E731
    write_gguf(tmp_path / "a.gguf", model, tokenizer, add)
    with pytest.raises(ModelError, match="'rope_freqs.weight', which transformers does not read"):
        check_language(check_gguf(tmp_path / "a.gguf"))


def test_other_architectures_and_parts_of_models(tmp_path):
    keys = [pair(b"general.architecture", 8, text(b"clip"))]
    with pytest.raises(ModelError, match="'clip', which is not loaded .* these are: bloom"):
        check_language(check_gguf(file_of(tmp_path / "clip.gguf", keys)))
    with pytest.raises(ModelError, match="holds no vocabulary"):
        check_language(check_gguf(file_of(tmp_path / "bare.gguf")))
    words = pair(b"tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 1) + text(b"a"))
    layers = pair(b"llama.block_count", 4, struct.pack("<I", 2**31))
    with pytest.raises(ModelError, match=f"claims {2**31} layers and holds 0"):
        check_language(check_gguf(file_of(tmp_path / "deep.gguf", [ARCH, words, layers])))
