"""``ruqsat``: the command line.  Exit codes: 0 good, 1 findings, 2 a usage or setting that stops the command."""

import sys
from typing import Annotated

import typer
from rich.console import Console

from ruqsat import __version__
from ruqsat.cli import bench, conformance, consent, db, evidence, explain, facts, notices, policy, proxy
from ruqsat.cli import journal as journal_command
from ruqsat.cli import serve as serve_command
from ruqsat.errors import RuqsatError, StoreUnavailableError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Ruqsat: the authorization sidecar for digital health.",
)  # fmt: skip
app.add_typer(policy.app, name="policy", help="Check and test the rules.")
app.add_typer(journal_command.app, name="journal", help="Verify the journal.")
app.add_typer(consent.app, name="consent", help="Withdraw consents, through the control API.")
app.add_typer(db.app, name="db", help="Upgrade the tables of the database.")
app.add_typer(evidence.app, name="evidence", help="A package for the authority about one person.")
app.add_typer(facts.app, name="facts", help="Import and export everybody's facts.")
app.add_typer(notices.app, name="notices", help="List notices, try them again.")
app.add_typer(proxy.app, name="proxy", help="Configure and test proxies.")
app.command("serve")(serve_command.serve)
app.command("explain")(explain.explain)
app.command("conformance")(conformance.conformance)
app.command("bench")(bench.bench)


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
