"""What the privacy office sees of notices and can do with them, and who cannot."""

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg
import pytest

from ruqsat.core.notice import Notice
from ruqsat.core.outgoing import Attempt, Outcome
from ruqsat.stores.sql_outbox import add_notices
from tests.duties.ground import MOMENT, close, opened, rows, run
from tests.process.starter import run_cli
from tests.sidecar import Sidecar, running_sidecar

OFFICE = {"roles": ["privacy_officer"], "org": "h1", "purpose_of_use": "HCOMPL"}
SOON = 30


def ask(sidecar: Sidecar, subject: str = "dr_aida") -> bool:
    """Ask whether somebody may read Dana's laboratory results."""
    body = {
        "subject": {"type": "user", "id": subject}, "action": {"name": "read"},
        "resource": {"type": "Record", "id": "o1", "properties": {"patient": "p-dana", "class": "labs"}},
        "context": {"purpose": "TREAT"},
    }  # fmt: skip
    answer = httpx.post(f"http://127.0.0.1:{sidecar.ports['json']}/access/v1/evaluation", json=body, trust_env=False)
    return bool(answer.json()["decision"])


def listed(sidecar: Sidecar, who: str | None, **said: str) -> httpx.Response:
    """Ask for the notices about Dana."""
    claims: dict[str, Any] = OFFICE if who == "dpo_assel" else {}
    headers = {"Authorization": f"Bearer {sidecar.token(who, **claims)}"} if who else {}
    url = f"http://127.0.0.1:{sidecar.ports['control']}/v1/notices"
    return httpx.get(url, params={"patient": "p-dana"} | said, headers=headers, trust_env=False)


def elsewhere(sidecar: Sidecar, org: str | None) -> httpx.Response:
    """Ask as the same office with a token of another organisation, or of none."""
    said = {name: value for name, value in (OFFICE | {"org": org}).items() if value is not None}
    headers = {"Authorization": f"Bearer {sidecar.token('dpo_assel', **said)}"}
    url = f"http://127.0.0.1:{sidecar.ports['control']}/v1/notices"
    return httpx.get(url, params={"patient": "p-dana"}, headers=headers, trust_env=False)


def test_the_office_sees_who_was_told_and_nobody_else_does(tmp_path: Path) -> None:
    """Page by page, by state; the patient, a clinician and a stranger get 403 and 401, for what is deferred stands there."""
    with running_sidecar(tmp_path, notice_channel="log") as sidecar:
        assert all(ask(sidecar) for _ in range(3)) and not ask(sidecar, "dr_erlan")
        give_up = time.monotonic() + SOON
        while len(listed(sidecar, "dpo_assel").json()["notices"]) < 3:
            assert time.monotonic() < give_up
            time.sleep(0.1)

        first = listed(sidecar, "dpo_assel", limit="2").json()
        second = listed(sidecar, "dpo_assel", limit="2", cursor=first["next"]).json()
        found = first["notices"] + second["notices"]
        assert len({each["key"] for each in found}) == 3 and second["next"] is None
        assert {(each["state"], each["kind"], each["audience"], each["org"]) for each in found} == {
            ("pending", "use", "patient", "h1")
        }
        assert listed(sidecar, "dpo_assel", state="dead").json() == {"notices": [], "next": None}
        assert [listed(sidecar, who).status_code for who in ("dana", "dr_aida", None)] == [403, 403, 401]
        assert listed(sidecar, "dpo_assel", cursor="x").status_code == 422
        assert [elsewhere(sidecar, org).status_code for org in ("h2", None)] == [403, 403]


def cli(folder: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `ruqsat notices` on the database at *url*."""
    return run_cli(folder, "notices", *words, database_url=url)


def notice(number: int, **said: Any) -> Notice:
    """Return one of many notices."""
    usual = Notice(f"k{number}", f"e-{number}", "use", "patient", f"p{number}", None, "h1", {}, MOMENT)
    return msgspec.structs.replace(usual, **said)


@pytest.mark.slow
def test_the_command_line_lists_what_was_given_up_and_has_it_tried_again(url: str, tmp_path: Path) -> None:
    """`dead` exits 1 while there is any; `retry` by key, reason or all; what the law left out stays left out."""

    async def fill() -> None:
        async with opened(url) as (store, duties):
            given = [notice(1), notice(2), notice(3, skipped="suppressed", ground="H273.4.9")]
            await store.run_writing(lambda connection: add_notices(connection, given, close, MOMENT))
            for each in await duties.claim(MOMENT, 9, "c"):
                result = Outcome("dead", "http_500") if each.key == "k1" else Outcome("skipped", "not_registered")
                await duties.settle([Attempt(each, result, "webhook", 0)], MOMENT)

    asyncio.run(fill())
    dead = cli(tmp_path, url, "dead")
    assert dead.returncode == 1 and "k1" in dead.stdout and "http_500" in dead.stdout and "k2" not in dead.stdout
    everything = cli(tmp_path, url, "list", "--json")
    assert [json.loads(line)["key"] for line in everything.stdout.splitlines()] == ["k1", "k2", "k3"]
    assert "suppressed H273.4.9" in cli(tmp_path, url, "list", "--patient", "p3").stdout

    assert cli(tmp_path, url, "retry").returncode == 2
    assert "1 will be tried again" in cli(tmp_path, url, "retry", "k1", "k3").stdout
    assert "1 will be tried again" in cli(tmp_path, url, "retry", "--all").stdout
    assert cli(tmp_path, url, "dead").returncode == 0
    assert run(url, lambda store, duties: rows(store, "state")) == ["pending", "pending", "skipped"]


def test_the_command_line_chooses_a_patient_s_channel(tmp_path: Path) -> None:
    """One that exists, or the usual one again; a misspelt one is refused."""
    url = f"sqlite:///{tmp_path}/truth.db"
    run(url, lambda store, duties: duties.standing())

    assert cli(tmp_path, url, "channel", "p1", "webhook").returncode == 0
    assert cli(tmp_path, url, "channel", "p1", "pigeon").returncode == 2
    assert cli(tmp_path, url, "list", "--state", "lost").returncode == 2
    assert cli(tmp_path, url, "channel", "p1", "usual").returncode == 0


@pytest.mark.parametrize("words", [("list",), ("dead",), ("retry", "--all")])
def test_the_command_line_does_not_touch_tables_of_another_revision(
    words: tuple[str, ...], truth: str, tmp_path: Path
) -> None:
    """A database that was not upgraded is one clear line and exit code 2."""
    with psycopg.connect(truth, autocommit=True) as connection:
        connection.execute("UPDATE ruqsat_revision SET version_num = '0001'")
    refused = cli(tmp_path, truth, *words)
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
