"""The command line answers at once: nothing heavy is imported before a command runs."""

import subprocess
import sys

import pytest

import mindsd as package

HEAVY = {"torch", "diffusers", "transformers"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["generate", "--help"],
        ["generate"],
        ["tune", "--bound", "a"],
        ["bench", "-h"],
        ["chat", "hello", "--model", "no-such"],
        ["complete", "--input", "no-such", "--output", "out"],
        ["describe", "no-such.png", "--model", "no-such"],
    ],
)
def test_nothing_heavy_is_imported(arguments):
    code = (
        "import sys; from mindsd.app.cli import main; main(sys.argv[1:]); "
        f"sys.exit(bool({HEAVY!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
    assert run.returncode == 0


def test_version(mindsd):
    assert mindsd("--version").out == f"mindsd {package.__version__}\n"


def test_help_names_the_commands(mindsd):
    run = mindsd("--help")
    assert run.code == 0
    names = ("generate", "chat", "complete", "describe", "tune", "bench", "doctor")
    assert all(name in run.out for name in names)


def test_no_command_shows_the_help(mindsd):
    run = mindsd()
    assert run.code == 2 and "generate" in run.out


def test_an_unknown_command_is_refused(mindsd):
    run = mindsd("nonsense")
    assert (run.code, run.err) == (2, "mindsd: No such command 'nonsense'.\n")


def test_the_module_runs():
    run = subprocess.run([sys.executable, "-m", "mindsd.app", "--version"], capture_output=True)
    assert run.returncode == 0 and run.stdout.startswith(b"mindsd ")
