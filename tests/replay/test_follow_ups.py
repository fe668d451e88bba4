"""A real process: receipts and outcomes over HTTP, and its own journal made again."""

import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from ruqsat.core.personal import lifted
from ruqsat.stores.journal_folder import list_segments, read_lines
from tests.conftest import ROOT
from tests.process.starter import run_cli
from tests.sidecar import Sidecar, running_sidecar

NAME = "clinic.example/a"
OFFICE = {"roles": ["privacy_officer"], "org": "h1", "purpose_of_use": "HCOMPL"}
POINTS = {"mis": "explain = true\ncapabilities = []", "other": "explain = true", "plain": ""}
QUESTION: dict[str, Any] = {
    "subject": {"type": "user", "id": "dr_aida"}, "action": {"name": "read"},
    "resource": {"type": "Record", "id": "o1", "properties": {"patient": "p-dana", "class": "labs"}},
    "context": {"purpose": "TREAT"},
}  # fmt: skip


class Served(NamedTuple):
    """A process with registered points and a key, and what verifies its receipts."""

    sidecar: Sidecar
    folder: Path
    key: str

    def call(self, point: str, method: str, path: str, body: Any = None) -> httpx.Response:
        """Call the JSON listener as a point."""
        url = f"http://127.0.0.1:{self.sidecar.ports['json']}{path}"
        return httpx.request(method, url, json=body, headers={"x-ruqsat-secret": f"secret of {point}"}, trust_env=False)

    def look(self, who: str, entry: str, query: str = "", **claims: Any) -> httpx.Response:
        """Ask the control API for a receipt."""
        token = self.sidecar.token(who, **((OFFICE if who == "dpo_assel" else {}) | claims))
        url = f"http://127.0.0.1:{self.sidecar.ports['control']}/v1/journal/entries/{entry}/receipt{query}"
        return httpx.get(url, headers={"authorization": f"Bearer {token}"}, trust_env=False)

    def decide(self, point: str = "mis", **changes: Any) -> str:
        """Ask; return the id of the answer."""
        answer = self.call(point, "POST", "/access/v1/evaluation", QUESTION | changes)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["context"]["id"])

    def report(self, decision: str, outcome: str = "done", point: str = "mis", **more: Any) -> int:
        """Report an outcome; return the status."""
        body = {"decision": decision, "outcome": outcome} | more
        return self.call(point, "POST", "/v1/outcomes", body).status_code

    def journaled(self, kind: str) -> list[dict[str, Any]]:
        """Return the entries of a kind."""
        return [each for each in map(lifted, read_lines(self.folder / "journal")) if each["kind"] == kind]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three points, a key, checkpoints every tenth of a second."""
    folder = tmp_path_factory.mktemp("follow-ups")
    points = "".join(
        f'[{name}]\nlisteners = ["json"]\nsecret_sha256 = "{sha256(f"secret of {name}".encode()).hexdigest()}"\n{more}\n'
        for name, more in POINTS.items()
    )
    (folder / "points.toml").write_text(points)
    key_file = folder / "journal.pem"
    key = run_cli(folder, "journal", "key", str(key_file), "--name", NAME).stdout.strip()
    with running_sidecar(
        folder, enforcement_points=str(folder / "points.toml"), journal_key_file=str(key_file), journal_name=NAME,
        journal_checkpoint_seconds="0.1",
    ) as sidecar:  # fmt: skip
        yield Served(sidecar, folder, key)


def signed(ask: Any) -> httpx.Response:
    """Ask until the entry is under a checkpoint; before that, the answer says so."""
    give_up = time.monotonic() + 20
    while (answer := ask()).status_code == 409 and time.monotonic() < give_up:
        assert "not-signed-yet" in answer.text
        time.sleep(0.05)
    return answer  # type: ignore[no-any-return]


def holds(served: Served, receipt: httpx.Response) -> dict[str, Any]:
    """Verify a receipt as anybody may, with the key alone; return the entry that it is of."""
    assert receipt.status_code == 200, receipt.text
    (served.folder / "receipt.json").write_bytes(receipt.content)
    told = run_cli(served.folder, "journal", "verify", str(served.folder / "receipt.json"), "--key", served.key)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout.splitlines()[0])  # type: ignore[no-any-return]


@pytest.mark.slow
def test_the_point_that_asked_gets_a_receipt_that_anybody_can_verify(served: Served) -> None:
    """Of its own decision, denied ones too; not another point's, not an unknown one, not without the right to reasons."""
    allowed, denied = served.decide(), served.decide(action={"name": "delete"})
    for entry in (allowed, denied):
        told = holds(
            served, signed(lambda entry=entry: served.call("mis", "GET", f"/v1/journal/entries/{entry}/receipt"))
        )
        assert (told["id"], told["kind"], told["point"], told["allowed"]) == (
            entry,
            "decision",
            "mis",
            entry == allowed,
        )

    other, unknown, plain = (
        served.call(point, "GET", f"/v1/journal/entries/{entry}/receipt")
        for point, entry in (("other", allowed), ("other", "no-such"), ("plain", served.decide("plain")))
    )

    assert (other.status_code, unknown.status_code, plain.status_code) == (404, 404, 403)
    assert other.text.split(":")[0] == unknown.text.split(":")[0]
    assert allowed not in other.text + plain.text
    assert {each["of"] for each in served.journaled("receipt")} >= {allowed, denied}


def test_the_privacy_office_gets_receipts_of_its_own_organisation(served: Served) -> None:
    """With what names people or without; the same answer for another's and for none; nobody else at all."""
    entry = served.decide()
    told = holds(served, signed(lambda: served.look("dpo_assel", entry)))
    assert (told["id"], told["patient"]) == (entry, "p-dana")
    bare = holds(served, served.look("dpo_assel", entry, "?personal=false"))
    assert (bare["id"], "patient" in bare) == (entry, False)

    far = served.look("dpo_assel", entry, org="h2")
    none = served.look("dpo_assel", "no-such")
    assert {served.look(who, entry).status_code for who in ("dana", "dr_aida")} == {403}
    assert far.status_code in (403, 404)
    assert none.status_code == 404
    looked = [each for each in served.journaled("decision") if each.get("resource") == "receipt"]
    assert {each["subject"] for each in looked} == {"dpo_assel", "dana", "dr_aida"}


def test_outcomes_are_reported_once_by_whoever_asked(served: Served) -> None:
    """201, and 200 for the same again; what is not theirs, unknown, denied, malformed or told otherwise is refused."""
    decision, denied = served.decide(), served.decide(action={"name": "delete"})
    said: dict[str, Any] = {"records": 3, "at": "2026-11-26T15:00:00+05:00", "key": "call-17"}

    assert [served.report(decision, **said) for _ in range(2)] == [201, 200]
    assert served.report(decision, "failed", **said) == 409
    assert served.report(decision, point="other") == 403
    assert served.report("no-such") == 404
    assert served.report(denied) in (404, 409)
    for wrong in ({"outcome": "perhaps"}, {"records": -1}, {"records": 1.5}, {"at": "today"}, {"note": "free text"}):
        assert served.report(decision, **({"key": "x"} | wrong)) == 400, wrong
    assert served.call("nobody", "POST", "/v1/outcomes", {}).status_code == 401
    assert served.call("mis", "GET", "/v1/outcomes").status_code == 405
    assert served.call("mis", "GET", "/v1/elsewhere").status_code == 404

    (entry,) = [each for each in served.journaled("outcome") if each["id"] == decision]
    assert (entry["outcome"], entry["records"], entry["happened"], entry["key"], entry["point"], entry["org"]) == (
        "done", 3, said["at"], "call-17", "mis", "h1",
    )  # fmt: skip


def test_the_journal_of_a_real_process_is_made_again(served: Served) -> None:
    """With the real store, cache and clock: every decision of the other tests gives the same answer; a permit is owed."""
    owed = served.decide()

    made = run_cli(
        served.folder, "journal", "replay", str(served.folder / "journal"), "--policies", str(ROOT), "--strict"
    )
    missing = run_cli(served.folder, "journal", "outcomes", str(served.folder / "journal"), "--missing", "--after", "0")

    decisions = len(served.journaled("decision"))
    assert decisions > 0
    assert made.stdout == f"{decisions} decisions made again, with the same answer\n", made.stdout + made.stderr
    assert owed in missing.stdout
    assert missing.returncode == 1
    assert list_segments(served.folder / "journal")
