"""A whole sidecar process: whose tokens it takes when it serves the demo, and what it does not start on."""

import shutil
from pathlib import Path

import pytest

from tests.process.starter import run_cli
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


def test_withdrawn_consent_cannot_come_back_with_an_older_backup(tmp_path: Path) -> None:
    """A database that lacks changes which the journal knew is not served from until its operator has said so."""
    backup, database = tmp_path / "backup.db", tmp_path / "ruqsat.db"
    with running_sidecar(tmp_path) as sidecar:
        assert ask_as_nginx(sidecar, sidecar.token("dr_aida")) == 200
    shutil.copy(database, backup)
    with running_sidecar(tmp_path) as sidecar:
        withdraw = ask(
            sidecar.ports["control"], "POST", "/v1/consents/c-dana-h1/withdraw", bearer(sidecar.token("dana"))
        )
        assert (withdraw.status, ask_as_nginx(sidecar, sidecar.token("dr_aida"))) == (200, 403)
    shutil.copy(backup, database)

    for _ in range(2):  # an attempt to start leaves nothing by which the next one succeeds
        with pytest.raises(AssertionError, match="restored without its last changes"), running_sidecar(tmp_path):
            pass
    said = run_cli(tmp_path, "db", "restored", database_url=f"sqlite:///{database}", auth_listen="off")
    assert said.returncode == 0, said.stderr
    with running_sidecar(tmp_path):
        pass


def test_process_starts_again_on_what_it_left(tmp_path: Path) -> None:
    """A journal that knows the database as far as it reaches, or is new, is no reason not to start."""
    with running_sidecar(tmp_path) as sidecar:
        assert ask_as_nginx(sidecar, sidecar.token("dr_aida")) == 200
    with running_sidecar(tmp_path):
        pass
    with running_sidecar(tmp_path, journal_dir=str(tmp_path / "another")) as sidecar:
        assert ask_as_nginx(sidecar, sidecar.token("dr_aida")) == 200
