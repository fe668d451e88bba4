"""A failure of any kind at any seam of the way of a request is a denial, in the shape that its listener has for one."""

import asyncio
import gc
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from linecache import getline
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from unittest.mock import patch
from warnings import catch_warnings, simplefilter

import grpc
import jwt
import pytest
import uvloop
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from ruqsat.core import policy_set
from ruqsat.service import drafts, recall
from ruqsat.settings import load_settings
from ruqsat.web import forward_auth, wire
from ruqsat.web.ext_authz import ExtAuthz
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.forward_auth.verdict import Verdict
from ruqsat.web.listeners import serve
from ruqsat.wiring import Process, open_process
from tests.sidecar import ADMITTED, PEOPLE
from tests.wire.seams import Seam, Walk, walking
from tests.wire.ways import (
    CHECK,
    DIALECTS,
    EVALUATION,
    RECORD,
    Told,
    asked,
    checked,
    is_whole,
    lets_through,
    opened,
    posted,
    proxied,
    request,
)

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(2**32))))
LINES = 30
KEY, ISSUER, AUDIENCE = "k" * 40, "https://issuer.test", "ruqsat-test"
ERRORS: tuple[type[BaseException], ...] = (Exception, TimeoutError, MemoryError, asyncio.CancelledError, RecursionError)
BEFORE_ANY_REQUEST = "Protocol.__init__"
"""Where a failure has the loop close the listener itself: nobody is answered from then on, and so nobody allowed."""

ENTRIES = {
    each.__qualname__: sorted({line for _, _, line in each.__code__.co_lines() if line})[1]
    for each in (ForwardAuth.__call__, ExtAuthz.check_first)
}
"""
What the server calls, and the line of its `try`: before that, and once the answer is handed over, it is the server
that fails, which is no permit.
"""

OUTSIDE_TASKS = ("Protocol.", "_Corked.", "Groups.", "_Journal._conclude")
"""What the loop calls on the way of a request: bytes arrive, a group of entries is handed over, it is kept."""

ONCE_KEPT = ("Groups.has_sealed", "Groups.gathered")
"""What is asked of the next group, once one is kept: a failure there takes nothing from those who were told."""

SILENCE = 0.5
"""Seconds: who gets no answer for so long has got none; a proxy waits shorter and refuses."""


class Site:
    """All listeners of a process in this thread, and a connection to each."""

    def __init__(self, process: Process, addresses: dict[str, str]) -> None:
        self.process, self.addresses = process, addresses
        self.stub: Callable[..., Any] = lambda *_, **__: None

    def bearer(self, person: str) -> str:
        """Return the header line by which a person says who they are."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": person, "iat": now, "exp": now + 3600} | PEOPLE[person]
        return f"Authorization: Bearer {jwt.encode(claims, KEY, algorithm='HS256')}"


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """Open the real process with its demo world, its store and its journal, quietly."""
    settings = load_settings(
        database_url=f"sqlite:///{folder}/ruqsat.db", journal_dir=folder / "journal", policy_dir=Path(ADMITTED.name),
        json_listen="127.0.0.1:0", auth_listen="127.0.0.1:0", control_listen="127.0.0.1:0", grpc_listen="127.0.0.1:0",
        token_issuer=ISSUER, token_audience=AUDIENCE, token_algorithm="HS256", token_key=KEY, json_search=True, search_candidates_per_minute=10_000_000,
        policy_poll_seconds=0, lease_seconds=60, probe_seconds=30,
    )  # fmt: skip
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with open_process(settings, demo=True) as process:
        serving = asyncio.create_task(
            serve(
                process.listeners, companions=process.companions, drain_seconds=1, on_ready=ready.set_result, stop=stop
            )
        )
        found = Site(process, await ready)
        try:
            async with grpc.aio.insecure_channel(found.addresses["grpc"]) as channel:
                found.stub = channel.unary_unary(
                    CHECK, request_serializer=bytes, response_deserializer=CheckResponse.FromString
                )
                yield found
        finally:
            stop.set()
            await serving


class Outcome(NamedTuple):
    """What the caller met."""

    allows: bool
    is_denial: bool
    shown: str


def outcome_of(told: Told, is_denial: Callable[[Told], bool]) -> Outcome:
    """Whatever is 2xx and no denial of its listener allows."""
    denied = is_denial(told)
    return Outcome(not denied and any(200 <= each < 300 for each in told.statuses), denied, str(told))


async def over_http(where: Site, listener: str, sent: bytes, is_denial: Callable[[Told], bool]) -> Outcome:
    """Ask over a connection of its own."""
    reader, writer = await opened(where.addresses[listener])
    received, closed = b"", False
    try:
        writer.write(sent)
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(SILENCE):
                while part := await reader.read(65_536):
                    received += part
            closed = True
    finally:
        writer.transport.abort()
    told = Told(received, closed)
    return outcome_of(told, is_denial)


async def over_grpc(where: Site, message: bytes) -> Outcome:
    """Ask as Envoy does."""
    try:
        answer = await where.stub(message, timeout=SILENCE)
    except grpc.aio.AioRpcError as error:
        return Outcome(False, False, str(error.code()))
    return Outcome(lets_through(answer), not lets_through(answer), str(answer))


def forward_auth_denies(told: Told) -> bool:
    """403, or 401, with every header of a denial and no subject."""
    return (
        told.status in (401, 403)
        and b"\r\nx-ruqsat-subject: \r\n" in told.raw
        and b"x-ruqsat-reason: permitted" not in told.raw
    )


def json_denies(told: Told) -> bool:
    """AuthZEN's false, an error of the call, or a connection that is cut where an answer may have been begun."""
    return (
        told.status >= 400
        or (told.closed and not told.raw)
        or (told.status == 200 and b"true" not in told.raw and b'"results":[{' not in told.raw)
    )


def control_denies(told: Told) -> bool:
    """An error of the call."""
    return told.status >= 400


Ask = Callable[[Site], Any]


def ways() -> dict[str, Ask]:
    """Return how each listener is asked for something that is allowed."""
    close = "Connection: close"

    def at_auth(dialect: str) -> Ask:
        return lambda where: over_http(
            where, "auth", proxied(dialect, RECORD, where.bearer("dr_aida"), close), forward_auth_denies
        )

    def at_json(path: str, body: bytes) -> Ask:
        return lambda where: over_http(where, "json", posted(path, body, close), json_denies)

    return {
        "json": at_json(EVALUATION, asked()),
        "json in one piece": lambda where: over_http_kept(where, posted(EVALUATION, asked())),
        "batch": at_json("/access/v1/evaluations", b'{"evaluations":[' + asked() + b"]}"),
        "search": at_json("/access/v1/search/action", asked()),
        **{dialect: at_auth(dialect) for dialect in DIALECTS},
        "grpc": lambda where: over_grpc(
            where, checked(RECORD, [where.bearer("dr_aida").partition(": ")[2].encode()]).SerializeToString()
        ),
        "control": lambda where: over_http(
            where, "control", request("GET", "/v1/consents?patient=p-dana", where.bearer("dana"), close), control_denies
        ),
    }


async def over_http_kept(where: Site, sent: bytes) -> Outcome:
    """Ask the JSON listener on a connection that stays open, so that the answer is sent in one piece."""
    reader, writer = await opened(where.addresses["json"])
    received, part, closed = b"", b"", False
    try:
        writer.write(sent)
        with suppress(TimeoutError):
            async with asyncio.timeout(SILENCE):
                with suppress(ConnectionError):
                    while not is_whole(received) and (part := await reader.read(65_536)):
                        received += part
                closed = not part
    finally:
        writer.transport.abort()
    return outcome_of(Told(received, closed), json_denies)


async def seams_of(where: Site, ask: Ask) -> dict[Seam, bool]:
    """Walk the way of an allowed request, memory warm; return its seams in their order, and whether a task is there."""
    for _ in range(3):
        assert (await ask(where)).allows, (await ask(where)).shown
    with walking() as walk:
        assert (await ask(where)).allows
    return {seam: in_task for seam, in_task in walk.seams.items() if _is_on_the_way(seam, in_task)}


def _is_on_the_way(seam: Seam, in_task: bool) -> bool:
    """Tell it of what the loop calls, too: such a function fails within; of the journal's, whatever calls it sees to that."""
    if seam.function in ENTRIES:
        handed_over = "await send(" in getline(seam.file, seam.line)
        if seam.line <= ENTRIES[seam.function] or handed_over:
            return False
    if seam.file.endswith("sql_lane.py") and seam.line:
        return False  # between two lines there a seat is taken, which the end of the process would wait for
    if seam.function in ONCE_KEPT:
        return False
    in_journal = seam.file.endswith(("journal_groups.py", "journal_segment.py"))
    return in_task or (
        seam.function.startswith(OUTSIDE_TASKS)
        and seam.function != BEFORE_ANY_REQUEST
        and bool(seam.line) != in_journal
    )


class Found(NamedTuple):
    """What a sweep of injections met."""

    tried: int
    permits: list[tuple[Seam, str, str]]
    silent: list[tuple[Seam, str, str]]
    afterwards: list[Seam]


async def sweep(where: Site, ask: Ask, plan: list[tuple[Seam, type[BaseException]]]) -> Found:
    """Put each error into its seam, and ask once more afterwards."""
    found = Found(len(plan), [], [], [])
    for seam, error in plan:
        walk, outcome = await injected(where, ask, seam, error)
        if outcome.allows and walk.times:
            # What an earlier request left behind may have met the failure in its place: once more, alone.
            walk, outcome = await injected(where, ask, seam, error)
        if not walk.times:
            continue  # a seam that was reached only by chance, such as a timer's
        if outcome.allows and not walk.may_allow:
            found.permits.append((seam, error.__name__, outcome.shown))
        elif not outcome.allows and not outcome.is_denial and walk.in_task:
            found.silent.append((seam, error.__name__, outcome.shown))
        if not (await ask(where)).allows:
            found.afterwards.append(seam)
            break
    return found


async def injected(where: Site, ask: Ask, seam: Seam, error: type[BaseException]) -> tuple[Walk, Outcome]:
    """Ask with a failure in the seam, and let whatever it left behind come to its end."""
    with walking(seam, error()) as walk:
        outcome = await ask(where)
    for _ in range(10):
        await asyncio.sleep(0)
    return walk, outcome


def plan_of(seams: dict[Seam, bool], chance: random.Random) -> list[tuple[Seam, type[BaseException]]]:
    """Every call, and of the lines so many, with errors in turn; in a soak every error everywhere."""
    lines = [seam for seam in seams if seam.line]
    chosen = [seam for seam in seams if not seam.line] + chance.sample(lines, min(LINES, len(lines)))
    turn = chance.randrange(len(ERRORS))
    plan = [(seam, ERRORS[(turn + number) % len(ERRORS)]) for number, seam in enumerate(chosen)]
    if LONGER > 1:
        plan = [(seam, error) for seam in seams for error in ERRORS]
    # Nobody cancels what is no task.
    return [(seam, error) for seam, error in plan if seams[seam] or error is not asyncio.CancelledError]


@contextmanager
def nothing_known() -> Iterator[None]:
    """Read, decide and write every question anew: what is recalled has no seams."""
    with (
        patch.object(wire, "SHORT_BYTES", -1),
        patch.object(forward_auth, "SHORT_BYTES", -1),
        patch.object(recall, "LASTS", 0),
        patch.object(drafts, "_may_recur", lambda *_: False),
    ):
        yield


async def everywhere(
    folder: Path, ways_asked: dict[str, Ask], seed: int, *, anew: bool = True
) -> dict[str, Found]:  # fmt: skip
    """Sweep each way.  A condition that fails takes one candidate off a search, so there its seams are left out."""
    chance, found = random.Random(seed), {}
    with nothing_known() if anew else nullcontext():
        async with site(folder) as where:
            for name, ask in ways_asked.items():
                seams = await seams_of(where, ask)
                if name == "search":
                    seams = {seam: in_task for seam, in_task in seams.items() if "/core/" not in seam.file}
                found[name] = await sweep(where, ask, plan_of(seams, chance))
    return found


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in memory where there is one: the journal's disk is not what is tested."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(prefix="ruqsat-seams-", dir=shared if shared.is_dir() else None) as name, catch_warnings():
        simplefilter("ignore", ResourceWarning)  # a connection that failed as it was made is closed by its end
        logging.disable(logging.CRITICAL)
        try:
            yield Path(name)
        finally:
            logging.disable(logging.NOTSET)
            gc.collect()


@pytest.mark.slow
@pytest.mark.timeout(400 * LONGER)
def test_a_failure_at_any_seam_is_a_denial(quick: Path) -> None:
    """Each listener, each function on its way and its lines: never a permit, a denial in the listener's shape, and well again."""
    print(f"RUQSAT_TEST_SEED={SEED}")

    found = uvloop.run(everywhere(quick, ways(), SEED))
    again_in = quick / "again"
    again_in.mkdir()
    again = {name: ask for name, ask in ways().items() if name in ("json", "nginx")}
    found |= {
        f"{name}, recalled": each for name, each in uvloop.run(everywhere(again_in, again, SEED, anew=False)).items()
    }

    for name, each in found.items():
        print(f"{name}: {each.tried} failures")
        assert each.tried > (40 if LONGER > 1 else 20)
        assert (name, each.permits, each.silent, each.afterwards) == (name, [], [], [])


@pytest.mark.slow
def test_an_except_that_allows_is_found(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the edge of forward-auth answers a failure with 200, in two listeners, the sweep tells the seams."""
    generous = partial(Verdict, 200, "d", "permitted", "dr_aida")
    monkeypatch.setattr(
        forward_auth, "Verdict", lambda *given, **named: Verdict(*given, **named) if given or named else generous()
    )
    asked_ways = {name: ask for name, ask in ways().items() if name in ("nginx", "grpc")}

    found = uvloop.run(everywhere(quick, asked_ways, SEED))

    assert all(len(each.permits) > 20 for each in found.values())


def test_a_guard_that_is_left_out_is_found(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a failed denial counts as absent, the sweep finds a seam in a denial's condition."""
    monkeypatch.setattr(policy_set, "matches", lambda rule, test, case: _ignoring(test, case))

    found = uvloop.run(everywhere(quick, {"json": ways()["json"]}, SEED))

    assert found["json"].permits


def _ignoring(test: Any, case: Any) -> bool:
    with suppress(Exception):
        return bool(test(case.sub, case.act, case.res, case.ctx))
    return False
