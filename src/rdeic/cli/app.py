"""The program: what its commands have in common, and their order in its help."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

import typer

import rdeic
from rdeic.cli import developing, using
from rdeic.system.text import harmless

_UsageError: Any = typer.BadParameter.__bases__[
    0
]  # newer versions of typer have one of their own, not click's

app = typer.Typer(
    help="Extreme image compression: photographs at 0.02 to 0.15 bits per pixel.",
    rich_markup_mode=None,  # plain help: importing rich would double the start-up time
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rdeic {rdeic.__version__}")
        raise typer.Exit()


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for command in (
    using.compress,
    using.decompress,
    using.info,
    using.models,
    using.doctor,
    using.serve,
    developing.import_checkpoint,
    developing.train,
    developing.evaluate,
    developing.bench,
):
    app.command()(command)


def run() -> NoReturn:
    """The command line; leaves by SystemExit, 2 for a usage error."""
    try:
        code = app(standalone_mode=False, prog_name="rdeic")  # whose name shells complete for
    except typer.Abort:
        code = 1
    except _UsageError as error:
        # It may quote a file's name. Help, which is an error of this kind too, has several lines.
        error.message = "\n".join(map(harmless, error.message.split("\n")))
        error.show()
        code = error.exit_code
    sys.exit(code or 0)
