# pyright: reportMissingImports=false
"""OpenVINO's forms of a transformers folder, by its own tools, in an environment of their own.

python -m peers.language.openvino_weights MODEL FOLDER

FOLDER/plain is optimum-intel's export, FOLDER/int8 the same with nncf's weight-only 8 bits, both
with OpenVINO's tokenizer, which its pipeline loads.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nncf
import openvino as ov
from openvino_tokenizers import convert_tokenizer
from optimum.intel import OVModelForCausalLM
from transformers import AutoTokenizer


def convert(source: Path, folder: Path) -> None:
    plain, eight = folder / "plain", folder / "int8"
    shutil.rmtree(folder, ignore_errors=True)
    model = OVModelForCausalLM.from_pretrained(
        source, export=True, compile=False, load_in_8bit=False
    )
    model.save_pretrained(plain)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.save_pretrained(plain)
    for name, own in zip(
        ("openvino_tokenizer", "openvino_detokenizer"),
        convert_tokenizer(tokenizer, with_detokenizer=True),
        strict=True,
    ):
        ov.save_model(own, plain / f"{name}.xml")
    shutil.copytree(plain, eight, ignore=shutil.ignore_patterns("openvino_model.*"))
    graph = ov.Core().read_model(plain / "openvino_model.xml")
    small = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
    ov.save_model(small, eight / "openvino_model.xml")
    (folder / "done").touch()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
