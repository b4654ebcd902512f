# pyright: reportMissingImports=false
"""One peer and one forward, which runs whenever a line is read; told is what it took.

python -m peers.waiting_worker '{"tool": "openvino", "model": "unet", "dtype": "float32", ...}'
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from .forwards import Forward, made
from .waiting import Asked

Call = Callable[[], Tensor]


def compiled(asked: Asked) -> Call:
    """torch.compile of the whole, its weights frozen."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    inductor.freezing_discard_parameters = True  # what is frozen is not kept twice
    forward = asked_forward(asked)
    call = torch.compile(forward)
    return lambda: call(*forward.inputs)


def openvino(asked: Asked) -> Call:
    """Inputs are given at every call, and of fixed shapes."""
    import openvino as ov

    with tempfile.TemporaryDirectory() as room:
        process = get_context("spawn").Process(target=convert, args=(asked, room))
        process.start()  # it takes several times the model's memory, and gives it back so
        process.join()
        if process.exitcode:
            raise RuntimeError(f"the conversion ended with {process.exitcode}")
        given = [own.numpy() for own in torch.load(Path(room) / "inputs.pt")]
        hint = {"float32": "f32", "bfloat16": "bf16"}[asked.dtype]
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": asked.threads}
        model = ov.Core().compile_model(str(Path(room) / "model.xml"), "CPU", settings)
    request = model.create_infer_request()
    return lambda: torch.from_numpy(request.infer(given)[0])


@torch.inference_mode()
def convert(asked: Asked, room: str) -> None:
    """From torch into OpenVINO's files, the inputs beside them."""
    import openvino as ov

    with redirect_stdout(sys.stderr):
        forward = asked_forward(asked).float()
        inputs = [own.float() if own.is_floating_point() else own for own in forward.inputs]
        shapes: Any = [tuple(own.shape) for own in inputs]
        model = ov.convert_model(forward, example_input=tuple(inputs), input=shapes)
        ov.save_model(model, Path(room) / "model.xml", compress_to_fp16=False)
        torch.save(inputs, Path(room) / "inputs.pt")


def asked_forward(asked: Asked) -> Forward:
    torch.set_num_threads(asked.threads)
    return made(asked.model, getattr(torch, asked.dtype), asked.tiny)


TOOLS: dict[str, tuple[str, Callable[[Asked], Call]]] = {
    "compile": ("torch", compiled),
    "openvino": ("openvino", openvino),
}


def serve(asked: Asked, lines: Iterable[str], answers: TextIO) -> None:
    """Get ready and tell the version, then for each line the seconds of one forward."""
    package, tool = TOOLS[asked.tool]
    call = tool(asked)
    call()
    torch.save(call().clone(), asked.output)
    print(f"{package} {version(package)}", file=answers, flush=True)
    clock = getattr(time, asked.clock)
    for _ in lines:
        start = clock()
        call()
        print(clock() - start, file=answers, flush=True)


@torch.inference_mode()
def main() -> None:
    answers = sys.stdout
    with redirect_stdout(sys.stderr):  # some tools print
        serve(Asked.parse(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
