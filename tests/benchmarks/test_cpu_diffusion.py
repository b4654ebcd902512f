"""Models on a CPU beside peers: the command is really run, and peers' turns without the peers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.peers import waiting_worker
from benchmarks.peers.forwards import MODELS, made
from benchmarks.peers.waiting import Asked, Failed, Waiting, waiting

FILE = Path(__file__).parents[2] / "benchmarks" / "cpu_diffusion.py"
ASKED = Asked("compile", "vae", "float32", threads=1, tiny=True)
ANSWERS = "print('peer 1', flush=True)\nfor line in open(0): print(0.5, flush=True)"
QUIETS = "import sys; print('peer 1', flush=True); input(); sys.exit('it broke')"


def test_ways_are_measured_and_told(tmp_path: Path):
    options = ["--tiny", "--models", "vae", "--ways", "eager", "mindsd", "int8", "--rounds", "2"]
    options += ["--threads", "1", "--dtype", "float32", "--profile"]
    files = ["--json", str(tmp_path / "a.json"), "--markdown", str(tmp_path / "a.md")]
    command = [sys.executable, str(FILE), *options, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "a.json").read_text())
    [own] = report["models"]
    assert (report["dtype"], list(own["seconds"])) == ("float32", ["eager", "mindsd"])
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in own["seconds"].values())
    assert own["apart"]["mindsd"]["cosine"] > 0.9999 and own["profiles"]["mindsd"]
    assert own["left_out"] == {"int8": "only denoisers are rounded"}
    assert (tmp_path / "a.md").read_text() == done.stdout
    assert "left out: int8: only denoisers are rounded" in done.stdout


def test_a_table_has_the_ratio_of_ours_to_each(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(FILE.parent)
    import cpu_diffusion_tables  # pyright: ignore[reportMissingImports]

    ways = {"eager": [4.0, 4.0], "openvino": [3.0, 3.0], "mindsd": [2.0, 2.0]}
    own = {"model": "unet", "parameters": 5e6, "tflop": 1.0, "ceilings": [1.0], "left_out": {}}
    own |= {"seconds": ways, "versions": {"openvino": "openvino 1"}, "profiles": {}}
    own["apart"] = dict.fromkeys(ways, {"cosine": 1.0, "greatest": 0.0})
    report = {"cpu": "a", "threads": 2, "clock": "b", "torch": "2", "dtype": "float32"}
    lines = cpu_diffusion_tables.markdown(report | {"models": [own]}).splitlines()
    assert lines[0] == "a, 2 threads, b, torch 2, openvino 1, float32"
    assert lines[-2] == "openvino | 3 | 3-3 | 1.33x | 1.50x | 33% | 1.00000 | 0.0e+00"
    assert lines[-1].startswith("mindsd | 2 | 2-2 | 2.00x | 1.00x | 50%")


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_every_process_has_the_same_numbers(name: str):
    one, other = (made(name, torch.float32, tiny=True) for _ in range(2))
    assert torch.equal(one(*one.inputs), other(*other.inputs))
    assert made(name, torch.bfloat16, tiny=True).inputs[0].dtype is torch.bfloat16


@torch.inference_mode()
def test_a_peer_answers_each_line_with_what_its_turn_took(monkeypatch, tmp_path: Path):
    calls = []

    def tool(asked: Asked) -> waiting_worker.Call:
        forward = waiting_worker.asked_forward(asked)
        return lambda: calls.append(asked.tool) or forward(*forward.inputs)

    monkeypatch.setitem(waiting_worker.TOOLS, "compile", ("torch", tool))
    asked, answers = replace(ASKED, output=str(tmp_path / "output.pt")), io.StringIO()
    before = torch.get_num_threads()
    waiting_worker.serve(Asked.parse(str(asked)), ["\n", "\n"], answers)
    torch.set_num_threads(before)
    told, *seconds = answers.getvalue().splitlines()
    assert told.startswith("torch 2.") and all(float(own) > 0 for own in seconds)
    assert len(seconds) == 2 and len(calls) == 4  # one is warm before, one gives the output
    forward = made("vae", torch.float32, tiny=True)
    assert torch.allclose(torch.load(asked.output), forward(*forward.inputs), atol=1e-5)


def process(code: str) -> subprocess.Popen[str]:
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def test_a_process_that_waits_is_asked_in_turns(tmp_path: Path):
    output = tmp_path / "output.pt"
    torch.save(torch.ones(2), output)
    with process(ANSWERS) as own:
        peer = Waiting(own, replace(ASKED, output=str(output)), tmp_path / "errors")
        assert (peer.version, peer.output.tolist()) == ("peer 1", [1, 1])
        assert [peer.turn(), peer.turn()] == [0.5, 0.5]
        own.kill()


def test_a_peer_that_ends_in_its_turn_says_why(tmp_path: Path):
    output, errors = tmp_path / "output.pt", tmp_path / "errors"
    torch.save(torch.ones(2), output)
    errors.write_text("a warning\nit broke\n")
    with process(QUIETS) as own:
        peer = Waiting(own, replace(ASKED, output=str(output)), errors)
        with pytest.raises(Failed, match="compile failed: it broke"):
            peer.turn()


def test_a_peer_that_does_not_get_ready_says_why():
    with pytest.raises(Failed, match="nobody failed: KeyError: 'nobody'"):
        with waiting(replace(ASKED, tool="nobody")):
            pass
