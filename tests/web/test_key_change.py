"""A change of the record key, as an operator makes it: both keys, `ruqsat db reseal`, the new key alone."""

import asyncio
from base64 import b64encode
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ruqsat.cli.db import app
from ruqsat.stores.sql_reseal import Resealed
from tests.process.starter import run_cli
from tests.registry.corpus import changed
from tests.registry.documents import verified
from tests.web.test_consents import KEY, problem, serving
from tests.web.test_records import serving as all_registries

NEW = b64encode(b"n" * 32).decode()


@pytest.mark.slow
def test_the_key_is_changed_without_a_record_lost(tmp_path: Path) -> None:
    """Under both keys everything is read and a number stays tied to its patient; sealed anew, the new key is enough."""
    url = f"sqlite:///{tmp_path / 'ruqsat.db'}"
    for first in serving(tmp_path):
        id_ = first.record().json()["consent"]
    other = changed({"patient": "p-marat", "given_by.id": "p-marat"}, verified())
    same = changed({"signature.at": "2026-05-01T04:00:00Z"}, verified())
    for second in serving(tmp_path, record_key=NEW, record_key_previous=KEY):
        assert second.call("dana", "GET", f"/{id_}").json()["document"]["owner"]["surname"] == "CANARY-surname"
        assert problem(second.record(document=other)) == (409, "identity-conflict")
        assert second.record(document=same).status_code == 201
    keys = {"database_url": url, "record_key": NEW}
    alone = run_cli(tmp_path, "db", "reseal", **keys)
    done = run_cli(tmp_path, "db", "reseal", record_key_previous=KEY, **keys)
    for third in serving(tmp_path, record_key=NEW):
        assert third.call("dana", "GET", f"/{id_}").json()["document"]["owner"]["surname"] == "CANARY-surname"
        assert problem(third.record(document=other)) == (409, "identity-conflict")

    assert (alone.returncode, "1 open under no key" in alone.stdout) == (1, True)
    assert (done.returncode, done.stdout.startswith("1 records sealed under the new key, 1 were already")) == (0, True)
    assert "notices sealed under the new key" in done.stdout


@pytest.mark.parametrize(("settings", "says"), [
    ({"record_key_previous": KEY}, "record_key_previous without record_key"),
    ({"record_key": KEY, "record_key_previous": KEY}, "the key before is the same as the key"),
    ({"record_key": NEW, "record_key_previous": "CANARY"}, "RUQSAT_RECORD_KEY_PREVIOUS: expected 32 random bytes"),
    ({"record_key": NEW, "record_key_previous": KEY, "record_key_previous_file": "x"}, "not both"),
    ({"record_key": NEW, "record_key_previous_file": "nowhere"}, "RUQSAT_RECORD_KEY_PREVIOUS_FILE cannot be read"),
    ({}, "set RUQSAT_RECORD_KEY"),
])  # fmt: skip
def test_keys_that_do_not_fit_stop_the_command(settings: dict[str, str], says: str, tmp_path: Path) -> None:
    """With one line that names the setting, and shows no key."""
    done = run_cli(tmp_path, "db", "reseal", database_url=f"sqlite:///{tmp_path / 'ruqsat.db'}", **settings)

    assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert KEY not in done.stderr and "CANARY" not in done.stderr


@pytest.mark.parametrize(("records", "notices", "code"), [
    (Resealed(resealed=3), Resealed(current=2), 0), (Resealed(changed=1), Resealed(), 1), (Resealed(), Resealed(unreadable=1), 1),
], ids=str)  # fmt: skip
def test_the_key_before_is_to_be_kept_while_anything_needs_it(
    records: Resealed, notices: Resealed, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of records and of notices alike: whoever took it away would lose them."""
    for name, told in (("reseal_records", records), ("reseal_notices", notices)):
        monkeypatch.setattr(f"ruqsat.cli.db.{name}", lambda *_, told=told: asyncio.sleep(0, told))
    monkeypatch.setattr("ruqsat.cli.db.existing_url", lambda _: "")
    monkeypatch.setenv("RUQSAT_RECORD_KEY", KEY)

    done = CliRunner().invoke(app, ["reseal"])

    assert (done.exit_code, "keep the key before" in done.output) == (code, code == 1)


@pytest.mark.slow
def test_proceedings_are_sealed_anew_too(tmp_path: Path) -> None:
    """What a patient asked is read under the new key alone; what the clock began seals nothing and is left alone."""
    url = f"sqlite:///{tmp_path / 'ruqsat.db'}"
    asked = {"kind": "correction", "patient": "p-dana", "statement": "CANARY-statement"}
    for first in all_registries(tmp_path):
        id_ = first.call("dana", "POST", "proceedings", json=asked).json()["id"]
    done = run_cli(tmp_path, "db", "reseal", database_url=url, record_key=NEW, record_key_previous=KEY)
    assert (done.returncode, done.stdout.startswith("1 records sealed under the new key, 0 were already")) == (0, True)
    for second in all_registries(tmp_path, record_key=NEW):
        assert second.call("dana", "GET", f"proceedings/{id_}").json()["opened"]["statement"] == "CANARY-statement"
