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
        ["batch", "no-such.txt"],
        ["bench", "serve", "--url", "http://127.0.0.1:1"],
    ],
)
def test_nothing_heavy_is_imported(arguments):
    assert not imported(HEAVY, *arguments)


def test_the_page_of_help_takes_little():
    assert not imported({"pydantic", "httpx", "dynamicprompts", "fastapi", "gradio"}, "--help")


def test_drawing_imports_no_pipeline_but_the_model_s():
    code = (
        "import sys, mindsd.app.drawing; print('diffusers.pipelines.auto_pipeline' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.split() == ["False"], run.stderr


def imported(modules, *arguments):
    """Which of them a command line has imported."""
    code = (
        "import sys; from mindsd.app.cli import main; main(sys.argv[1:]); "
        f"print(*{modules!r} & set(sys.modules), file=sys.stderr); "
        "print('was here', file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    *_, found, last = run.stderr.splitlines()
    assert last == "was here"
    return found.split()


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
