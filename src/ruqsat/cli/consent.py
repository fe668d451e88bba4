"""``ruqsat consent``: changes of consents.  They go through the control API: one process writes."""

import os
from typing import Annotated
from urllib.parse import quote

import httpx
import typer
from rich.console import Console

from ruqsat.cli.client import open_client
from ruqsat.errors import OutcomeUnknownError, RuqsatError, SettingsError, StoreUnavailableError

app = typer.Typer(no_args_is_help=True, help="Withdraw consents, through the control API.")


class RefusedError(RuqsatError):
    """The control API said no; the message is its own."""

    code = "refused"


@app.callback()
def consents() -> None:
    """Change consents through the control API."""


@app.command("withdraw")
def withdraw(
    consent: Annotated[str, typer.Argument(help="Id of the consent.")],
    control: Annotated[
        str, typer.Option(help="Control API: an address as `serve` prints it, or a URL.")
    ] = "http://127.0.0.1:8183",
    token: Annotated[str | None, typer.Option(help="Bearer token (default: $BEARER).", show_default=False)] = None,
) -> None:
    """Withdraw a consent; when this returns, no request is answered from the old one."""
    bearer = token or os.environ.get("BEARER", "")
    if not bearer.isascii() or not bearer.isprintable():
        raise SettingsError("the bearer token holds something that no token holds")
    path = f"/v1/consents/{quote(consent, safe='')}/withdraw"
    try:
        with open_client(control) as client:
            answer = client.post(path, headers={"Authorization": f"Bearer {bearer}"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise StoreUnavailableError(f"no answer from the control API: {error.__class__.__name__}") from None
    said = _object(answer)
    if answer.status_code != httpx.codes.OK:
        raise RefusedError(str(said.get("detail", f"status {answer.status_code}")))
    if said.get("consent") != consent or not isinstance(said.get("token"), str):
        raise OutcomeUnknownError(f"`{control}` does not answer as the control API does: the consent may be in force")
    Console(highlight=False).print(f"withdrawn; consistency token {said.get('token')}")


def _object(answer: httpx.Response) -> dict[str, object]:
    try:
        said = answer.json()
    except ValueError:
        said = None
    return said if isinstance(said, dict) else {}
