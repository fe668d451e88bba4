"""``ruqsat consent``: changes of consents.  They go through the control API: one process writes."""

import os
from typing import Annotated

import httpx
import typer
from rich.console import Console

from ruqsat.errors import RuqsatError, StoreUnavailableError

app = typer.Typer(no_args_is_help=True)


class RefusedError(RuqsatError):
    """The control API said no; the message is its own."""

    code = "refused"


@app.callback()
def consents() -> None:
    """Change consents through the control API."""


@app.command("withdraw")
def withdraw(
    consent: Annotated[str, typer.Argument(help="Id of the consent.")],
    control: Annotated[str, typer.Option(help="Address of the control API.")] = "http://127.0.0.1:8183",
    token: Annotated[str | None, typer.Option(help="Bearer token (default: $BEARER).", show_default=False)] = None,
) -> None:
    """Withdraw a consent; when this returns, no request is answered from the old one."""
    bearer = token or os.environ.get("BEARER", "")
    try:
        answer = httpx.post(
            f"{control}/v1/consents/{consent}/withdraw", headers={"Authorization": f"Bearer {bearer}"}, timeout=10
        )
    except httpx.HTTPError as error:
        raise StoreUnavailableError(f"no answer from the control API: {error.__class__.__name__}") from error
    if answer.status_code != httpx.codes.OK:
        raise RefusedError(answer.json().get("detail", f"status {answer.status_code}"))
    Console(highlight=False).print(f"withdrawn; consistency token {answer.json()['token']}")
