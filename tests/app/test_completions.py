"""What a shell is offered, without anything heavy being imported for it."""

import os
import subprocess
import sys

import pytest

from mindsd.app.cli import main
from mindsd.app.completions import samplers
from mindsd.app.device_options import DEVICES, DTYPES, LANGUAGE_LAYERS, LAYERS
from mindsd.app.samplers import scheduler_of


def asking(line):
    """The variables by which the script that typer gives bash asks for a line's last word."""
    number = str(len(line.split(" ")) - 1)
    return {"_MINDSD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": number}


@pytest.fixture
def offered(monkeypatch, capsys):
    def ask(line):
        for name, value in asking(line).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as done:
            main([])
        assert done.value.code == 0
        return capsys.readouterr().out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mindsd be", ["bench"]),
        ("mindsd con", ["config"]),
        ("mindsd config ", ["show", "path"]),
        ("mindsd tune --bou", ["--bound"]),
        ("mindsd chat --device c", ["cuda", "cpu"]),
        ("mindsd bench --dtype ", [*DTYPES]),
        ("mindsd bench --model tiny-", ["tiny-sd", "tiny-dit"]),
        ("mindsd tune --scheduler Eu", ["Euler", "EulerAncestralDiscreteScheduler"]),
        ("mindsd describe -m ", ["tiny-vlm"]),
        ("mindsd doctor -m s", ["smollm2"]),
        ("mindsd complete --model models/", []),  # then a shell offers files
    ],
)
def test_a_shell_is_offered(line, words, offered):
    assert offered(line) == words


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from mindsd.app.cli import main\n"
        "try: main([])\n"
        "finally: print({'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    asked = os.environ | asking("mindsd chat --model ")
    run = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True)
    assert (run.returncode, run.stdout.split()[-1]) == (0, "set()"), run.stderr


def test_names_are_what_the_device_knows():
    from mindsd import device
    from mindsd.attention import layers

    assert set(DEVICES) == {"auto", *device.KINDS}
    assert set(DTYPES) == {"auto", *device.DTYPES}
    assert (LAYERS, LANGUAGE_LAYERS) == (layers.LAYERS, layers.LANGUAGE_LAYERS)


def test_samplers_need_no_quotes_and_are_known():
    import diffusers

    kinds = [scheduler_of(name) for name in samplers()]
    assert not [name for name in samplers() if " " in name]
    assert all(hasattr(diffusers, kind.split("(")[0]) for kind in kinds)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell, monkeypatch, capsys):
    # without this typer looks which shell runs it; with this, one is named, as in typer's own tests
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    with pytest.raises(SystemExit):
        main(["--show-completion", shell])
    assert "_MINDSD_COMPLETE=complete_" in capsys.readouterr().out
