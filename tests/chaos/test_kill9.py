"""
The control process, and PostgreSQL itself, killed while records are written: what was acknowledged is there, whole.

A kill shows that nothing is acknowledged before its commit.  It cannot show that a
commit is synced (the machine's memory of the file outlives a process): that is a
setting, which the store's own tests read back.

`RUQSAT_TEST_LONGER` makes it a hundred kills, `RUQSAT_TEST_SEED` repeats the draws of a run.
"""

import asyncio
import os
import random
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from ruqsat.core.policy_set import PolicySet
from ruqsat.core.vocabulary import Switches
from tests.chaos.agreement import Kept, half_written, lost, read_postgres, read_sqlite
from tests.chaos.fleet import Tokens
from tests.chaos.tellers import Memory, Teller, repeat, tell
from tests.chaos.world import Patient, patient, populate_now
from tests.ground import GroundMissingError, PostgresServer, missing, running_postgres
from tests.process.starter import MODULE, Sidecar, serving
from tests.process.test_on_postgres import children

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(2**32))))
KILLS = 4 if LONGER == 1 else 100
SERVER_KILLS = 3 if LONGER == 1 else 20
HASTY_KILLS = 12
TELLERS = 4
LONGEST_LIFE = 0.8
HASTY = (str(Path(__file__).with_name("hasty_store.py")),)
KEY = b64encode(bytes(range(32))).decode()


@pytest.fixture(scope="module")
def switches(policy_set: PolicySet) -> Switches:
    """The switches that the processes run under."""
    return policy_set.vocabulary.switches


class Ground:
    """A database that a sidecar is started on again and again, and what callers of all its lives were told."""

    def __init__(self, folder: Path, url: str, patients: Sequence[Patient], switches: Switches) -> None:
        self.folder, self.url, self.switches = folder, url, switches
        self.memory, self.tokens = Memory(), Tokens()
        self.patients = list(patients)

    def read(self) -> Kept:
        """What the tables say."""
        return read_postgres(self.url) if self.url.startswith("postgresql") else read_sqlite(self.folder)

    @contextmanager
    def serving(self, program: Sequence[str] = MODULE) -> Iterator[Sidecar]:
        """A life of the process."""
        with serving(
            self.folder, program=program, auth_listen="off", database_url=self.url, record_key=KEY,
            lease_seconds="60", probe_seconds="5", **self.tokens.settings,
        ) as sidecar:  # fmt: skip
            yield sidecar

    def check(self) -> None:
        """Nothing is lost, and nothing is there by half."""
        kept = self.read()
        assert lost(kept, self.memory) == []
        assert half_written(kept, [each.id for each in self.patients], self.switches) == []


async def write_until(
    sidecar: Sidecar, ground: Ground, patients: Sequence[Patient], chance: random.Random, kill: "Kill"
) -> None:
    """Let callers write until *kill* has killed, amid their calls or upon one's answer, and their connections are gone."""
    async with AsyncControl(sidecar) as client:
        tellers = [
            Teller(client, ground.tokens, each, ground.memory, random.Random(chance.random()), kill.on_told)
            for each in patients
        ]
        telling = asyncio.ensure_future(tell(tellers))
        await kill.done_after(chance.uniform(0.05, LONGEST_LIFE))
        await telling


def AsyncControl(sidecar: Sidecar) -> httpx.AsyncClient:
    """A client of the control listener."""
    return httpx.AsyncClient(base_url=f"http://{sidecar.addresses['control']}", trust_env=False, timeout=20)


class Kill:
    """Kills at a moment, or upon an answer: as soon as a caller has it, which is when a lie would show."""

    def __init__(self, pids: Sequence[int], after_answers: int | None) -> None:
        self._pids, self._after = pids, after_answers
        self._killed = False

    def on_told(self) -> None:
        """Hear that a caller was told something."""
        if self._after is not None:
            self._after -= 1
            if self._after <= 0:
                self.now()

    def now(self) -> None:
        """Kill, once."""
        if not self._killed:
            self._killed = True
            for pid in self._pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)

    async def done_after(self, seconds: float) -> None:
        """Kill after this time; or wait for the answers, within reason."""
        for _ in range(200):
            await asyncio.sleep(seconds)
            if self._after is None or self._killed:
                break
        self.now()


def kill_once(
    ground: Ground, patients: Sequence[Patient], chance: random.Random, program: Sequence[str] = MODULE, least: int = 0
) -> None:
    """One life of a process, ended while callers write, and not before *least* answers."""
    with ground.serving(program) as sidecar:
        after = chance.choice((None, chance.randint(1, 40)))
        kill = Kill([sidecar.pid], max(after or 0, least) if least > 0 else after)
        asyncio.run(write_until(sidecar, ground, patients, chance, kill))
        sidecar.process.wait()


async def ask_again(sidecar: Sidecar, ground: Ground, keys: Sequence[str]) -> None:
    """Repeat calls under their keys: what was answered is answered again, what was not has an answer now."""
    async with AsyncControl(sidecar) as client:
        for key in keys:
            sent = ground.memory.sent[key]
            if sent.answer is None and sent.path.endswith("/supersede"):
                continue  # whether it was done is for the next check to say; the older record may have moved on
            answer = await repeat(client, sent)
            assert sent.answer in (None, answer)


def grounds(folder: Path, kind: str, switches: Switches, count: int, stack: ExitStack) -> Ground:
    """Return a ground on SQLite or on a PostgreSQL of its own, with so many patients without a record."""
    patients = [patient(number) for number in range(count)]
    if kind == "sqlite":
        url = f"sqlite:///{folder}/ruqsat.db"
    else:
        try:
            server = stack.enter_context(running_postgres(folder / "postgres", durable=True))
        except GroundMissingError as error:
            missing("PostgreSQL", error)
        url = server.new_truth()
    populate_now(url, patients, [])
    return Ground(folder, url, patients, switches)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a server of the test's own may enter."""
    with TemporaryDirectory(prefix="ruqsat-kill9-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.slow
@pytest.mark.timeout(120 + KILLS * 20)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_was_acknowledged_outlives_a_kill_and_nothing_is_there_by_half(
    folder: Path, kind: str, switches: Switches
) -> None:
    """After each kill amid writes: every acknowledged record as told, all its parts agree, the same key the same answer."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    with ExitStack() as stack:
        ground = grounds(folder, kind, switches, KILLS * TELLERS, stack)
        before = 0
        for number in range(KILLS):
            patients = ground.patients[number * TELLERS : (number + 1) * TELLERS]
            wanting = 5 * KILLS + 1 - len(ground.memory.told) if number == KILLS - 1 else 0
            kill_once(ground, patients, chance, least=wanting)  # whatever was drawn, enough was told to prove something
            ground.check()
            recent, before = list(ground.memory.sent)[before:], len(ground.memory.sent)
            if number % 5 == 4 or number == KILLS - 1:
                with ground.serving() as sidecar:
                    asyncio.run(ask_again(sidecar, ground, recent))
                ground.check()
    print(f"{len(ground.memory.told)} answers, none lost; {len(ground.memory.unanswered)} were under way")
    assert ground.memory.refused == []
    assert len(ground.memory.told) > 5 * KILLS


@pytest.mark.slow
@pytest.mark.timeout(120 + SERVER_KILLS * 30)
def test_what_was_acknowledged_outlives_a_kill_of_postgresql(folder: Path, switches: Switches) -> None:
    """The server and all its processes killed amid writes: once it has recovered, nothing is lost and nothing by half."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    port = 0
    for number in range(SERVER_KILLS):
        try:
            with running_postgres(folder / "postgres", port=port, durable=True) as server:
                if number == 0:
                    ground = prepared(server, folder, switches)
                else:
                    ground.check()
                port = server.port
                patients = ground.patients[number * TELLERS : (number + 1) * TELLERS]
                with ground.serving() as sidecar:
                    kill = Kill([server.pid, *children(server.pid)], chance.choice((None, chance.randint(1, 40))))
                    asyncio.run(write_until(sidecar, ground, patients, chance, kill))
        except GroundMissingError as error:
            missing("PostgreSQL", error)
    with running_postgres(folder / "postgres", port=port, durable=True):
        ground.check()
    print(f"{len(ground.memory.told)} answers, none lost; {ground.memory.refused}")
    assert len(ground.memory.told) > 2 * SERVER_KILLS


def prepared(server: PostgresServer, folder: Path, switches: Switches) -> Ground:
    """Return the ground of a server that is killed itself."""
    url = server.new_truth()
    patients = [patient(number) for number in range(SERVER_KILLS * TELLERS)]
    populate_now(url, patients, [])
    return Ground(folder, url, patients, switches)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_sidecar_that_acknowledges_before_it_commits_is_found_out(folder: Path, switches: Switches) -> None:
    """The same check finds a loss in a sidecar with that bug, so passing it means something."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    with ExitStack() as stack:
        ground = grounds(folder, "sqlite", switches, HASTY_KILLS * TELLERS, stack)
        for number in range(HASTY_KILLS):
            kill_once(ground, ground.patients[number * TELLERS : (number + 1) * TELLERS], chance, HASTY)
            if gone := lost(ground.read(), ground.memory):
                print(f"{len(gone)} of {len(ground.memory.told)} lost at kill {number + 1}: {gone[:2]}")
                return
    pytest.fail(f"nothing lost in {HASTY_KILLS} kills")
