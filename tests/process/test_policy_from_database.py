"""Three sidecars on one PostgreSQL take their policy from it: staged, activated, taken back, with Valkey and without."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ruqsat.core.pack import digest_of
from ruqsat.stores.pack_file import write_pack_file
from ruqsat.stores.policy_folder import load_texts
from tests.conftest import ROOT
from tests.ground import PostgresServer, Server
from tests.process.checker import entries_in
from tests.process.starter import Sidecar, question, run_cli, serving
from tests.stores.redis_ground import url_of
from tests.stores.test_redis_copy import mortal

__all__ = ["mortal"]

SOON = 120
"""Seconds within which something must happen at all; nothing is promised of how soon."""
LEASE = 5.0
"""Seconds: what is promised of how soon an activation is in force everywhere."""


class Fleet(NamedTuple):
    """Three sidecars, the packs that are released to them, and how a desk reaches their database."""

    sidecars: tuple[Sidecar, ...]
    desk: dict[str, str]
    folder: Path
    wide: str
    narrow: str

    def command(self, *words: str, expect: int | None = 0) -> str:
        """Run `ruqsat policy` as the desk would."""
        done = run_cli(self.folder, "policy", *words, timeout=SOON, **self.desk)
        assert expect is None or done.returncode == expect, done.stdout + done.stderr
        return done.stdout

    def status(self, number: int) -> dict[str, Any]:
        """What a sidecar says of itself."""
        said: dict[str, Any] = self.sidecars[number].call("control", "GET", "/status").json()
        return said


@pytest.fixture
def fleet(postgres: PostgresServer, mortal: Server, tmp_path: Path) -> Iterator[Fleet]:
    """Three sidecars whose pack folders are empty; the shipped pack is released to them."""
    wide, narrow = tmp_path / "wide", tmp_path / "narrow"
    for pack in (wide, narrow):
        shutil.copytree(ROOT / "policies", pack / "policies")
        shutil.copy(ROOT / "model.conf", pack)
    withdraw_first_rule(narrow)
    shared = {
        "database_url": postgres.new_truth(), "redis_url": url_of(mortal), "redis_namespace": "fleet",
        "policy_source": "database", "policy_compare_seconds": "0.5", "auth_listen": "off",
    }  # fmt: skip
    (tmp_path / "empty").mkdir()
    ruled = Fleet((), shared, tmp_path, digest_of(load_texts(wide)), digest_of(load_texts(narrow)))
    ruled.command("publish", str(wide), "--author", "aida", "--reason", "first", "--activate")
    with ExitStack() as stack:
        sidecars = []
        for name in ("one", "two", "three"):
            write_pack_file(tmp_path / f"state-{name}" / "last-good.pack", load_texts(wide))  # admitted, for speed
            each = shared | {"policy_dir": str(tmp_path / f"state-{name}"), "pack": str(tmp_path / "empty")}
            sidecars.append(stack.enter_context(serving(tmp_path / name, demo=True, **each)))
        yield ruled._replace(sidecars=tuple(sidecars))


def withdraw_first_rule(pack: Path) -> None:
    """Take `consent-01` and the cases that promise it away: nobody reads by consent any more."""
    file = pack / "policies" / "consent.csv"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "consent-01" not in line))
    for each in (pack / "policies").glob("*.test.toml"):
        if "consent-01" in each.read_text():
            each.unlink()


class Answer(NamedTuple):
    """One answer: when it was asked for, of which sidecar, by which set, and what."""

    asked: float
    sidecar: int
    policy: str
    allowed: bool


@contextmanager
def asking(fleet: Fleet) -> Iterator[list[Answer]]:
    """Ask every sidecar without a pause, whether dr_aida may read Dana's results."""
    answers: list[Answer] = []
    stop = threading.Event()

    def ask(number: int) -> None:
        while not stop.is_set():
            began = time.monotonic()
            said = fleet.sidecars[number].evaluate().json()
            answers.append(Answer(began, number, said["context"]["policy"], said["decision"]))
            time.sleep(0.01)

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(len(fleet.sidecars))]
    for asker in askers:
        asker.start()
    try:
        yield answers
    finally:
        stop.set()
        for asker in askers:
            asker.join()


def activate_and_watch(fleet: Fleet, digest: str, *, allowed: bool) -> None:
    """Activate a release, and hold every answer of every sidecar against the promise."""
    with asking(fleet) as answers:
        fleet.command("activate", digest[:16], "--author", "berik", "--reason", "because", "--approved-by", "carla")
        give_up = time.monotonic() + SOON
        while {each.sidecar for each in answers if each.asked >= first(answers, digest) + LEASE} != {0, 1, 2}:
            assert time.monotonic() < give_up
            time.sleep(0.05)
    seen = first(answers, digest)
    late = [each for each in answers if each.asked >= seen + LEASE and each.policy != digest[:16]]
    assert late == []
    assert {each.sidecar for each in answers if each.asked >= seen + LEASE} == {0, 1, 2}
    assert {(each.policy == digest[:16], each.allowed) for each in answers} == {(True, allowed), (False, not allowed)}
    spread = [min(each.asked for each in answers if each.sidecar == n and each.policy == digest[:16]) for n in range(3)]
    print(f"in force everywhere {max(spread) - min(spread):.3f} s after it was in force somewhere")


def first(answers: list[Answer], digest: str) -> float:
    """When the first answer under a set was asked for."""
    return min((each.asked for each in answers if each.policy == digest[:16]), default=float("inf"))


def wait_until_well(fleet: Fleet) -> None:
    """Wait until every sidecar has reported that it is as it should be."""
    give_up = time.monotonic() + SOON
    while True:
        said = json.loads(fleet.command("status", "--json", expect=None))
        well = [each["report"]["result"] == "ready" for each in said["sidecars"]]
        if len(well) == 3 and all(well):
            return
        assert time.monotonic() < give_up, said
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_activation_is_in_force_everywhere_within_the_lease(fleet: Fleet, mortal: Server) -> None:
    """Staged, every sidecar reports it ready and decides as before; activated, no answer is older than the lease."""
    assert {fleet.status(n)["policy"] for n in range(3)} == {fleet.wide}
    assert fleet.status(1)["policy_origin"] in ("redis", "database")
    fleet.command("publish", str(fleet.folder / "narrow"), "--author", "aida", "--reason", "narrower")
    wait_until_well(fleet)
    assert {fleet.status(n)["policy"] for n in range(3)} == {fleet.wide}
    assert fleet.status(0)["policy_release"]["wanted"] == fleet.narrow

    activate_and_watch(fleet, fleet.narrow, allowed=False)
    os.kill(mortal.process.pid, signal.SIGKILL)
    mortal.process.wait()
    activate_and_watch(fleet, fleet.wide, allowed=True)

    wait_until_well(fleet)
    fleet.command("status")
    history = [(step["generation"], step["kind"], step["author"], step["approval"]) for step in
               json.loads(fleet.command("releases", "--json"))]  # fmt: skip
    assert history == [
        (1, "stage", "aida", None), (2, "activate", "aida", None), (3, "stage", "aida", None),
        (4, "activate", "berik", "carla"), (5, "activate", "berik", "carla"),
    ]  # fmt: skip
    for sidecar in fleet.sidecars:
        assert sidecar.stop() == 0
        told = [entry for entry in entries_in(sidecar.journal) if entry["kind"] == "policy"]
        assert [entry["policy"] for entry in told] == [fleet.wide, fleet.narrow, fleet.wide]
        assert [(each["generation"], each["subject"], each.get("approval"), each["why"]) for each in told[:2]] == [
            (2, "aida", None, "first"), (4, "berik", "carla", "because"),
        ]  # fmt: skip
    assert "no sidecar has reported" in fleet.command("status")


@pytest.mark.slow
def test_a_sidecar_whose_pack_cannot_be_had_and_that_kept_none_does_not_start(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """The bytes in the database were altered and the last good pack is corrupt: exit 2; with a good one it serves."""
    url = postgres.new_truth()
    settings = {"database_url": url, "policy_source": "database", "policy_compare_seconds": "0.5", "auth_listen": "off"}
    done = run_cli(tmp_path, "policy", "publish", str(ROOT), "--why", "first", "--activate", timeout=SOON, **settings)
    assert done.returncode == 0, done.stderr
    postgres.execute("UPDATE policy_pack SET body = 'other'::bytea", url.rpartition("/")[2])
    state = tmp_path / "state"
    write_pack_file(state / "last-good.pack", load_texts(ROOT))
    settings["policy_dir"] = str(state)

    with serving(tmp_path / "good", demo=True, **settings) as sidecar:
        assert sidecar.evaluate().json()["decision"] is True
        told = sidecar.call("control", "GET", "/status").json()
        assert (told["policy_origin"], told["policy_release"]["reached"]) == ("last-good", 2)

    whole = (state / "last-good.pack").read_bytes()
    (state / "last-good.pack").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused = run_cli(tmp_path, "serve", "--demo", timeout=SOON, **settings)
    assert refused.returncode == 2
    assert "not those that were released" in refused.stderr


@pytest.mark.slow
def test_a_set_that_must_apply_and_cannot_denies_everything_until_one_that_can_is_active(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """Its bytes were altered: from the lease on nothing is allowed and nothing is ready; another activation ends that."""
    url, narrow = postgres.new_truth(), tmp_path / "narrow"
    shutil.copytree(ROOT / "policies", narrow / "policies")
    shutil.copy(ROOT / "model.conf", narrow)
    withdraw_first_rule(narrow)
    settings = {
        "database_url": url, "policy_source": "database", "policy_compare_seconds": "0.5", "auth_listen": "off",
        "policy_dir": str(tmp_path / "state"), "json_explain": "true",
    }  # fmt: skip
    write_pack_file(tmp_path / "state" / "last-good.pack", load_texts(ROOT))
    ruled = Fleet((), settings, tmp_path, digest_of(load_texts(ROOT)), digest_of(load_texts(narrow)))
    ruled.command("publish", str(ROOT), "--author", "aida", "--reason", "first", "--activate")

    with serving(tmp_path / "one", **settings) as sidecar:
        one = ruled._replace(sidecars=(sidecar,))
        assert sidecar.evaluate().json()["decision"] is True

        sidecar.send_signal(signal.SIGSTOP)
        must = ("--author", "aida", "--reason", "urgent", "--activate", "--must-apply", "--approved-by", "carla")
        one.command("publish", str(narrow), *must)
        altered = f"UPDATE policy_pack SET body = 'other'::bytea WHERE digest = '{one.narrow}'"
        postgres.execute(altered, url.rpartition("/")[2])
        sidecar.send_signal(signal.SIGCONT)

        until(lambda: sidecar.call("control", "GET", "/health/ready").status_code == 503)
        until(lambda: one.status(0)["policy_release"]["denies"])
        until(lambda: not sidecar.evaluate().json()["decision"])
        for who, action in (("dr_aida", "read"), ("dana", "read"), ("dr_erlan", "search")):
            assert sidecar.evaluate(question(who, action)).json()["decision"] is False
        assert sidecar.call("control", "GET", "/health/live").status_code == 200

        one.command("activate", one.wide[:16], "--author", "berik", "--reason", "as before", "--approved-by", "carla")
        until(lambda: sidecar.evaluate().json()["decision"])
        assert sidecar.call("control", "GET", "/health/ready").status_code == 200


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)
