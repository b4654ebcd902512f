"""The parser of all commands, and the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import mindsd
from mindsd.errors import MindsdError, ModelError, OutputError, RequestError

from .command_tree import CONFIG, keep_brackets
from .commands.batch import batch
from .commands.bench import bench
from .commands.bench_serve import bench_serve
from .commands.chat import chat
from .commands.complete import complete
from .commands.config import config
from .commands.describe import describe
from .commands.doctor import doctor
from .commands.generate import generate
from .commands.serve import serve
from .commands.show import show
from .commands.tune import tune
from .config_file import read_config
from .settings import Settings, blame, misspelt, name_variables

USER_ERRORS = (RequestError, ModelError, OutputError)

app = typer.Typer(
    name="mindsd",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
benches = typer.Typer(invoke_without_command=True)
benches.callback()(bench)
benches.command("serve")(bench_serve)
app.command()(generate)
app.command()(batch)
app.command()(chat)
app.command()(complete)
app.command()(describe)
app.command()(serve)
app.command()(show)
app.command()(tune)
app.add_typer(benches, name="bench")
app.command()(doctor)
app.add_typer(config, name=CONFIG)


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
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="MINDSD_CONFIG",
            show_default=False,
            help="Options as a TOML file. (default: mindsd.toml here, or your own)",
        ),
    ] = None,
) -> None:
    """Image, vision and text models, fast on the machine you have.

    Every option can also be set by a variable or in a file: mindsd config show --help
    """
    if context.invoked_subcommand is None:
        context.get_help()  # prints it
        raise typer.Exit(2)
    settings = context.ensure_object(Settings)
    settings.root = context
    for said in misspelt(context.command):
        print(f"mindsd: {said}", file=sys.stderr)
    if context.invoked_subcommand != CONFIG:  # which reads it itself
        settings.file = read_config(config, context.command)
        context.default_map = settings.file.tables


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; the exit code.

    0 done, 1 failed, 2 the request, the model or the output folder is wrong, 130 cancelled.
    """
    command, settings = typer.main.get_command(app), Settings()
    name_variables(command)
    keep_brackets(command)
    try:
        return command(arguments, prog_name="mindsd", standalone_mode=False, obj=settings) or 0
    except typer.TyperException as error:
        return _complain(f"{error.format_message()}{blame(error)}", error.exit_code)
    except USER_ERRORS as error:
        return _complain(f"{error}{settings.behind(str(error))}", 2)
    except MindsdError as error:
        return _complain(str(error), 1)
    except OSError as error:  # ours are MindsdErrors: this is stdout, full or closed by its reader
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for what is still in its buffer
        return _complain(f"what is printed cannot be written ({error.strerror}); it stopped", 1)


def _complain(message: str, code: int) -> int:
    print(f"mindsd: {' '.join(message.split())}", file=sys.stderr)
    return code
