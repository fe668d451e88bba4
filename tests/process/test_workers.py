"""Several workers of one sidecar, on a real PostgreSQL: one address, several processes, and who keeps them."""

import asyncio
import errno
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
import uvloop

from ruqsat.core.signed_note import VerifierKey
from ruqsat.settings import Settings
from ruqsat.stores.journal_claims import Trust
from ruqsat.stores.journal_verification import verify_folder
from ruqsat.supervision import UNUSABLE, Share, _Keeper, of_worker, read_share
from tests.ground import PostgresServer
from tests.process.checker import entries_in
from tests.process.starter import Sidecar, run_cli, serving
from tests.process.test_on_postgres import children
from tests.stores.redis_ground import until

WORKERS = 3
SOON = 60
SECRET = "w" * 40
BRIEF = {
    "workers": str(WORKERS), "lease_seconds": "4", "probe_seconds": "0.5", "token_issuer": "https://issuer.example",
    "token_audience": "ruqsat", "token_algorithm": "HS256", "token_key": SECRET,
    "record_key": "cnVxc2F0IGRlbW86IG5vYm9keSBpbiBpdCBleGlzdHM=",
}  # fmt: skip
ANNOUNCED = "  journal  "


@pytest.fixture
def url(postgres: PostgresServer, tmp_path: Path) -> Iterator[str]:
    """A database with the demo world in it."""
    url = postgres.new_truth()
    with serving(tmp_path / "demo", demo=True, database_url=url):
        pass
    yield url
    postgres.drop_database(url)


def wait_until(is_so: Any) -> None:
    """Wait for something that must come at all."""
    give_up = time.monotonic() + SOON
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def ask(sidecar: Sidecar, times: int) -> list[tuple[str, bool]]:
    """Ask on so many new connections, several at once; return ids and answers."""
    with ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: sidecar.evaluate().json(), range(times)))
    return [(answer["context"]["id"], answer["decision"]) for answer in answers]


def token(subject: str, **claims: Any) -> dict[str, str]:
    """Return the header that says who asks."""
    now = int(time.time())
    whole = {"iss": BRIEF["token_issuer"], "aud": "ruqsat", "sub": subject, "iat": now, "exp": now + 600} | claims
    return {"authorization": f"Bearer {jwt.encode(whole, SECRET, algorithm='HS256')}"}


@pytest.mark.slow
def test_workers_answer_at_one_address_and_are_kept(url: str, tmp_path: Path) -> None:
    """Each has a journal and signs it; one that is killed is missed by nobody and comes again; a withdrawal holds for all."""
    key = ("journal", "key", str(tmp_path / "k.pem"), "--name", "clinic.example/a", "--workers", str(WORKERS))
    keys = [VerifierKey.read(each) for each in run_cli(tmp_path, *key).stdout.split()]
    signing = {"journal_key_file": str(tmp_path / "k.pem"), "journal_name": "clinic.example/a"}
    with serving(tmp_path, demo=False, database_url=url, **BRIEF | signing) as sidecar:
        wait_until(lambda: sidecar.stdout.count(ANNOUNCED) == WORKERS)
        workers = children(sidecar.pid)
        assert len(workers) == WORKERS
        told = ask(sidecar, 60)

        os.kill(workers[0], signal.SIGKILL)
        told += ask(sidecar, 60)
        wait_until(lambda: sidecar.stdout.count(ANNOUNCED) == WORKERS + 1)
        assert len(set(children(sidecar.pid)) - set(workers)) == 1
        told += ask(sidecar, 60)
        assert {allowed for _, allowed in told} == {True}

        sidecar.addresses["control"] = sidecar.stdout.rpartition("  control  ")[2].split()[0]  # of the newest worker
        answer = sidecar.call(
            "control", "POST", "/v1/consents/c-dana-h1/withdraw?wait=visible", timeout=SOON,
            headers=token("dana", roles=["patient"], purpose_of_use="PATRQT", subject_type="patient"),
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        after = ask(sidecar, 90)
        assert {allowed for _, allowed in after} == {False}
        assert sidecar.stop() == 0

    folders = sorted((tmp_path / "journal").iterdir())
    assert [each.name for each in folders] == [f"worker-{number}" for number in range(WORKERS)]
    kept = Counter(
        (entry["id"], entry["allowed"])
        for folder in folders
        for entry in entries_in(folder)
        if entry["kind"] == "decision"
    )
    assert all(kept[each] == 1 for each in told + after)
    for folder, own in zip(folders, keys, strict=True):
        assert verify_folder(folder, Trust((own,), stopped=True)).findings == ()
    assert all(any(entry["kind"] == "decision" for entry in entries_in(folder)) for folder in folders)


@pytest.mark.slow
def test_workers_do_not_outlive_their_keeper(url: str, tmp_path: Path) -> None:
    """Killed without a word, it takes them with it: what they answered is kept, and the address is free again."""
    with serving(tmp_path, demo=False, database_url=url, **BRIEF) as sidecar:
        wait_until(lambda: sidecar.stdout.count(ANNOUNCED) == WORKERS)
        workers = children(sidecar.pid)
        told = ask(sidecar, 20)
        sidecar.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        again = {f"{name}_listen": address for name, address in sidecar.addresses.items() if name != "control"}
    with serving(tmp_path, demo=False, database_url=url, **BRIEF | again) as sidecar:
        assert ask(sidecar, 1)[0][1] is True
        assert sidecar.stop() == 0
    kept = {entry.get("id") for folder in (tmp_path / "journal").iterdir() for entry in entries_in(folder)}
    assert {each for each, _ in told} <= kept


@pytest.mark.slow
def test_what_workers_cannot_share_stops_the_start(tmp_path: Path) -> None:
    """SQLite, a demo, gRPC at a Unix socket, a setting that the workers refuse: one line and exit code 2."""
    for words, settings, said in (
        ((), {}, "SQLite serves one"),
        (("--demo",), {}, "served by one process"),
        (
            (),
            {"database_url": "postgresql://127.0.0.1:9/none", "grpc_listen": f"unix:{tmp_path}/g"},
            "not a Unix socket",
        ),
        ((), {"database_url": "postgresql://127.0.0.1:9/none"}, "store-unavailable"),
    ):
        ended = run_cli(tmp_path, "serve", *words, timeout=SOON, **BRIEF | settings)
        assert ended.returncode == 2
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What befalls the next starts of workers, one each."""
    befalls: list[Exception] = []
    start = asyncio.create_subprocess_exec

    async def may_fail(*words: str, **how: Any) -> asyncio.subprocess.Process:
        if befalls:
            raise befalls.pop()
        return await start(*words, **how)

    monkeypatch.setattr("ruqsat.supervision.FIRST_PAUSE", 0.01)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", may_fail)
    return befalls


def test_a_worker_that_cannot_be_started_is_started_later(failures: list[Exception]) -> None:
    """No process or no memory at that moment: the keeper goes on, has all its workers again, and ends well."""

    async def story() -> int:
        keeper = _Keeper(lambda _number: ("sleep", "600"), (), ())
        keeping = asyncio.create_task(keeper.keep(2, 1.0))
        for failure in (BlockingIOError(errno.EAGAIN, "no process"), OSError(errno.ENOMEM, "no memory")):
            failures.extend([failure] * 3)
            for worker in keeper._running.values():
                worker.kill()
            await until(lambda: not failures and len(keeper._running) == 2)
        keeper._end(signal.SIGTERM)
        return await keeping

    assert uvloop.run(story()) == 0


def test_a_setting_that_workers_refuse_stops_even_a_start_that_did_not_succeed_at_once(
    failures: list[Exception],
) -> None:
    """A process that the system did not give has said nothing: the first one that runs is heard."""
    failures.append(BlockingIOError(errno.EAGAIN, "no process"))
    keeper = _Keeper(lambda _number: ("sh", "-c", f"exit {UNUSABLE}"), (), ())
    assert uvloop.run(asyncio.wait_for(keeper.keep(1, 1.0), SOON)) == UNUSABLE


@asynccontextmanager
async def kept(*words: str, workers: int = 1, drain_seconds: float = 1.0) -> AsyncIterator[_Keeper]:
    """Keep workers that these words start, until the block is left; whatever fails in it, none of them is left over."""
    keeper = _Keeper(lambda _number: words, (), ())
    keeping = asyncio.create_task(keeper.keep(workers, drain_seconds))
    try:
        yield keeper
        keeper._end(signal.SIGTERM)
        assert await keeping == 0
    finally:
        for worker in keeper._running.values():
            worker.kill()


def test_a_worker_that_once_served_brings_nobody_down_by_what_it_refuses_later(
    failures: list[Exception], tmp_path: Path
) -> None:
    """A database that is away at its next start ends it as a wrong setting would: it is started again, and again."""
    script = f"echo >> {tmp_path}/starts; case $(wc -l < {tmp_path}/starts) in 1) exit 1;; 2|3) exit {UNUSABLE};; esac; exec sleep 600"

    async def story() -> None:
        async with kept("sh", "-c", script):
            await until(lambda: (tmp_path / "starts").exists() and (tmp_path / "starts").read_text().count("\n") == 4)

    uvloop.run(asyncio.wait_for(story(), SOON))


@pytest.mark.parametrize(("lasting", "pauses"), [(60.0, [0.02, 0.03, 0.03]), (-1.0, [0.01, 0.01, 0.01])])
def test_a_worker_that_does_not_last_is_started_later_each_time_and_never_too_late(
    lasting: float, pauses: list[float], failures: list[Exception], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Twice the pause, up to the longest; one that lasted has the first pause again."""
    monkeypatch.setattr("ruqsat.supervision.LONGEST_PAUSE", 0.03)
    monkeypatch.setattr("ruqsat.supervision.LASTING", lasting)

    async def story() -> None:
        async with kept("false"):
            await until(lambda: len(caplog.records) >= 3)

    uvloop.run(asyncio.wait_for(story(), SOON))
    assert [each.args[2] for each in caplog.records[:3] if isinstance(each.args, tuple)] == pauses


def test_a_hangup_reaches_every_worker_and_ends_none(tmp_path: Path) -> None:
    """The keeper has no policy of its own to look at."""
    script = f"trap 'touch {tmp_path}/told-$$' HUP; touch {tmp_path}/up-$$; while :; do sleep 0.02; done"

    async def story() -> None:
        async with kept("sh", "-c", script, workers=2) as keeper:
            await until(lambda: len([*tmp_path.glob("up-*")]) == 2)
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: len([*tmp_path.glob("told-*")]) == 2)
            assert len(keeper._running) == 2

    uvloop.run(asyncio.wait_for(story(), SOON))


def test_a_worker_that_will_not_end_is_ended(tmp_path: Path) -> None:
    """Deaf to the signal, beyond its drain and the keeper's patience: a stop comes to its end all the same."""
    script = f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.02; done"

    async def story() -> None:
        no_patience = -10.0  # no drain, and none of the ten seconds beyond it
        async with kept("sh", "-c", script, drain_seconds=no_patience):
            await until((tmp_path / "up").exists)

    uvloop.run(asyncio.wait_for(story(), SOON))


def test_a_worker_that_is_being_started_when_the_stop_comes_is_stopped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody had told it; and the listeners are nobody's but the workers' from then on."""
    listening, start = socket.socket(), asyncio.create_subprocess_exec

    async def story() -> int:
        keeper = _Keeper(lambda _number: ("sleep", "600"), (), (listening,))

        async def meanwhile(*words: str, **how: Any) -> asyncio.subprocess.Process:
            worker = await start(*words, **how)
            keeper._end(signal.SIGTERM)
            return worker

        monkeypatch.setattr(asyncio, "create_subprocess_exec", meanwhile)
        try:
            return await keeper.keep(1, 2.0 * SOON)
        finally:
            for worker in keeper._running.values():
                worker.kill()

    assert uvloop.run(asyncio.wait_for(story(), SOON)) == 0
    assert listening.fileno() == -1


def test_workers_listen_apart_where_each_must_be_found() -> None:
    """The control API has a port or a path for each worker, and `off` is off for all."""
    given = Settings(auth_listen="off", control_listen="127.0.0.1:8183", journal_dir=Path("j"))
    assert of_worker(given, 0) == {"--journal-dir": "j/worker-0", "--control-listen": "127.0.0.1:8183"}
    assert of_worker(given, 2) == {"--journal-dir": "j/worker-2", "--control-listen": "127.0.0.1:8185"}
    assert (
        of_worker(Settings(auth_listen="off", control_listen="unix:/run/c"), 1)["--control-listen"] == "unix:/run/c.1"
    )
    assert of_worker(Settings(auth_listen="off", control_listen="127.0.0.1:0"), 1)["--control-listen"] == "127.0.0.1:0"
    assert of_worker(Settings(auth_listen="off", control_listen="off"), 1)["--control-listen"] == "off"


def test_each_worker_signs_under_a_name_of_its_own() -> None:
    """Whose journal a checkpoint is of stands in it, so that no worker's folder passes for another's."""
    given = Settings(auth_listen="off", journal_name="clinic.example/a", journal_key_file=Path("k"))

    assert [of_worker(given, each)["--journal-name"] for each in (0, 12)] == [
        "clinic.example/a/worker-0",
        "clinic.example/a/worker-12",
    ]
    assert "--journal-name" not in of_worker(Settings(auth_listen="off"), 0)


def test_a_share_is_read_as_it_is_written() -> None:
    """Number, pipe and sockets go through a word of the command line."""
    for share in (Share(0, {}, 3), Share(2, {"json": 5, "auth": 6}, 4)):
        assert read_share(str(share)) == share
