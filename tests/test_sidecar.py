"""A whole sidecar process: whose tokens it takes when it serves the demo."""

from pathlib import Path

import pytest

from tests.proxies.raw import ask, bearer
from tests.sidecar import Sidecar, running_sidecar

TRUTH = ("X-Original-Method: GET", "X-Original-URI: /patients/p-dana/labs/o1", "X-Original-Host: records.example")


def ask_as_nginx(sidecar: Sidecar, token: str) -> int:
    """Ask what nginx would, with this token."""
    return ask(sidecar.ports["auth"], "GET", "/authz/nginx", *TRUTH, bearer(token)).status


def test_demo_takes_the_tokens_of_the_issuer_in_the_settings(tmp_path: Path) -> None:
    """Token settings win over the demo's own: their issuer is believed, and no other token is printed."""
    with running_sidecar(tmp_path) as sidecar:
        assert ask_as_nginx(sidecar, sidecar.token("dr_aida")) == 200
        assert (
            ask_as_nginx(sidecar, sidecar.token("dr_aida", iss="https://demo.ruqsat.example", aud="ruqsat-demo")) == 401
        )

    assert "eyJ" not in (tmp_path / "output").read_text()


def test_demo_cannot_be_started_on_half_of_the_token_settings(tmp_path: Path) -> None:
    """A half-given issuer is never completed with the demo's own secret: the start is refused."""
    with pytest.raises(AssertionError, match="half configured"), running_sidecar(tmp_path, token_key=""):
        pass


def test_subject_that_a_header_would_trim_is_nobody(tmp_path: Path) -> None:
    """A subject with a space at an end is refused: the backend would read it as somebody else's name."""
    claims = {"roles": ["physician"], "org": "h1", "purpose_of_use": "TREAT"}
    with running_sidecar(tmp_path) as sidecar:
        told = {
            subject: ask_as_nginx(sidecar, sidecar.token(subject, **claims)) for subject in ("dr_aida ", " dr_aida")
        }

    assert set(told.values()) == {401}
