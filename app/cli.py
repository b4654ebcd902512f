"""The parser of all commands, and the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import mindsd
from mindsd.errors import MindsdError, ModelError, OutputError, RequestError

from .commands.bench import bench
from .commands.chat import chat
from .commands.complete import complete
from .commands.describe import describe
from .commands.doctor import doctor
from .commands.generate import generate
from .commands.tune import tune

USER_ERRORS = (RequestError, ModelError, OutputError)

app = typer.Typer(
    name="mindsd",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate)
app.command()(chat)
app.command()(complete)
app.command()(describe)
app.command()(tune)
app.command()(bench)
app.command()(doctor)


def _version(asked: bool) -> None:
    if asked:
        print(f"mindsd {mindsd.__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Image, vision and text models, fast on the machine you have."""
    if context.invoked_subcommand is None:
        context.get_help()  # prints it
        raise typer.Exit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; the exit code.

    0 done, 1 failed, 2 the request, the model or the output folder is wrong, 130 cancelled.
    """
    try:
        return app(arguments, prog_name="mindsd", standalone_mode=False) or 0
    except typer.TyperException as error:
        return _complain(error.format_message(), error.exit_code)
    except MindsdError as error:
        return _complain(str(error), 2 if isinstance(error, USER_ERRORS) else 1)
    except OSError as error:  # ours are MindsdErrors: this is stdout, full or closed by its reader
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for what is still in its buffer
        return _complain(f"what is printed cannot be written ({error.strerror}); it stopped", 1)


def _complain(message: str, code: int) -> int:
    print(f"mindsd: {' '.join(message.split())}", file=sys.stderr)
    return code
