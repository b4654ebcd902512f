"""The quick reader gives what the package's own gives, and stands in for it only for a while."""

import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers.integrations.ggml import _gguf_parse_value

from mindsd.weights.gguf import SCALARS
from mindsd.weights.language import find_language_model
from mindsd.weights.loading import load_language_model
from tests.mindsd.weights.test_gguf import ARCH, file_of, pair, text
from tests.zoo.tiny_llama import tiny_llama, tiny_tokenizer, write_gguf

gguf = pytest.importorskip("gguf")
gguf_reader = pytest.importorskip("mindsd.weights.gguf_reader")

NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
VALUES = [0, 1, 2, 127]


def array(key, kind, count, values):
    return pair(key, 9, struct.pack("<IQ", kind, count) + values)


@pytest.fixture
def arrays(tmp_path):
    """A file with an array of each type, the empty ones, and scalars round them."""
    pairs = [ARCH, pair(b"general.alignment", 4, struct.pack("<I", 32))]
    pairs += [
        array(b"n%d" % kind, kind, len(VALUES), struct.pack(f"<{len(VALUES)}{letter}", *VALUES))
        for kind, letter in SCALARS.items()
    ]
    words = [b"", b"a", "größer".encode(), b"x" * 300]
    pairs += [array(b"words", 8, len(words), b"".join(map(text, words)))]
    pairs += [array(b"no words", 8, 0, b""), array(b"no numbers", 5, 0, b"")]
    pairs += [pair(b"last", 6, struct.pack("<f", 0.5))]
    return file_of(tmp_path / "arrays.gguf", pairs)


@pytest.fixture
def model(tmp_path):
    path, tokenizer = tmp_path / "tiny.gguf", tiny_tokenizer()
    write_gguf(path, tiny_llama(len(tokenizer)), tokenizer)
    return path


def values(reader):
    """Of each field, as transformers reads them."""
    return {
        name: (field.types, [_gguf_parse_value(field.parts[at], field.types) for at in field.data])
        for name, field in reader.fields.items()
    }


def test_values_are_those_of_the_package(arrays, model):
    for path in (arrays, model):
        assert values(gguf_reader.WholeArrays(path)) == values(gguf.GGUFReader(path))


def test_tensors_are_those_of_the_package(model):
    ours, theirs = gguf_reader.WholeArrays(model).tensors, gguf.GGUFReader(model).tensors
    assert [own.name for own in ours] == [own.name for own in theirs] and ours
    for own, other in zip(ours, theirs, strict=True):
        assert own.tensor_type == other.tensor_type and tuple(own.shape) == tuple(other.shape)
        np.testing.assert_array_equal(own.data, other.data)


def test_a_file_is_read_once_while_it_loads(model, monkeypatch):
    read, before = [], gguf_reader.WholeArrays._build_fields

    def counted(self, *given):
        read.append(self)
        return before(self, *given)

    monkeypatch.setattr(gguf_reader.WholeArrays, "_build_fields", counted)
    load_language_model(find_language_model(model), torch.float32, torch.device("cpu"))
    assert len(read) == 1


def test_other_threads_have_the_packages_own(model):
    with gguf_reader.read_once(), ThreadPoolExecutor(1) as other:
        assert isinstance(gguf.GGUFReader(model), gguf_reader.WholeArrays)
        theirs = other.submit(lambda: gguf.GGUFReader(model)).result()
    assert type(theirs) is gguf.GGUFReader


def test_the_package_has_its_own_again(model):
    own = gguf.GGUFReader, gguf.get_tensor_name_map
    with pytest.raises(KeyboardInterrupt), gguf_reader.read_once():
        assert gguf.GGUFReader(model) is gguf.GGUFReader(model)
        raise KeyboardInterrupt
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == own
