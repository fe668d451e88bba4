"""
``ruqsat``: the command line.

Exit codes: 0 good, 1 findings, 2 a usage or setting that stops the command, or output that cannot be written.
"""

import errno
import os
import sys
from contextlib import suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Annotated, Any

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


class _Output(FileIO):
    """What commands print to; it remembers why that failed, whoever caught it."""

    problem: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write, as a file does."""
        try:
            return super().write(data)
        except OSError as problem:
            self.problem = problem
            raise


def run() -> None:
    """Run the command line; an error of ours is one clear line and exit code 2, never a traceback."""
    usual = sys.__stdout__
    if usual is None or sys.stdout is not usual:  # closed by whoever called us, or taken by one in this very process
        _run()
        return
    out = _Output(usual.fileno(), "w", closefd=False)
    text = TextIOWrapper(BufferedWriter(out), usual.encoding, usual.errors, line_buffering=usual.line_buffering)
    sys.stdout = text
    try:
        _run()
    finally:
        with suppress(OSError):
            text.flush()
        if out.problem is not None:
            _end_unwritten(out.problem)


def _run() -> None:
    try:
        app()
    except RuqsatError as error:
        _print_error(error.code, _text(error))
        sys.exit(2)


def _end_unwritten(problem: OSError) -> None:
    """Say in one line that not everything could be printed, or nothing where the reader has gone; it is no result."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else what is left would be tried again as the process ends
    if problem.errno != errno.EPIPE:
        _print_error("unwritten-output", f"what this command prints cannot be written: {problem.strerror}")
    sys.exit(2)


def _print_error(code: str, sentence: str) -> None:
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"error[{code}]: {sentence}")


def _text(error: RuqsatError) -> str:
    """Return what the operator needs; a store that failed is explained by the first line of its own words."""
    if isinstance(error, StoreUnavailableError) and error.__cause__ is not None:
        return f"{error}: {str(error.__cause__).partition(chr(10))[0]}"
    return str(error)


if __name__ == "__main__":
    run()
