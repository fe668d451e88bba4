"""``ruqsat``: the command line.  Exit codes: 0 good, 1 findings, 2 a usage or setting that stops the command."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from ruqsat import __version__
from ruqsat.cli.lazy import lazily
from ruqsat.errors import RuqsatError, StoreUnavailableError

_GROUPS = ("policy", "journal", "consent", "db", "evidence", "facts", "notices", "proxy")
_COMMANDS = ("serve", "explain", "conformance", "bench")
_PLACES = {name: name for name in _GROUPS} | {name: f"{name}:{name}" for name in _COMMANDS}

app = typer.Typer(
    cls=lazily(_PLACES), no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Ruqsat: the authorization sidecar for digital health.",
)  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        Console().print(f"ruqsat {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Ruqsat: the authorization sidecar for digital health."""


def run() -> None:
    """Run the command line; an error of ours is one clear line and exit code 2, never a traceback."""
    try:
        app()
    except RuqsatError as error:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(
            f"error[{error.code}]: {_text(error)}"
        )
        sys.exit(2)


def _text(error: RuqsatError) -> str:
    """Return what the operator needs; a store that failed is explained by the first line of its own words."""
    if isinstance(error, StoreUnavailableError) and error.__cause__ is not None:
        return f"{error}: {str(error.__cause__).partition(chr(10))[0]}"
    return str(error)


if __name__ == "__main__":
    run()
