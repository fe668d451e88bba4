"""
How long after a break-glass session was opened at one sidecar another lets its clinician through: by hints, without.

Two sidecars' information points in one process, each with a store and connections of its own, on one PostgreSQL of
ours that syncs its commits. One opens a session by the whole use case (counted, sealed, its notices in the outbox;
not journaled); at the other the same reading is decided by the shipped rules all the time. Counted is from the moment
the opening is acknowledged to the first permit.

Run: ``PYTHONPATH=.:src python bench/break_glass.py --tries 200``
"""

import argparse
import asyncio
import json
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.revocation import point
from msgspec import Struct
from tests.ground import running_postgres, running_valkey

from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Episode, Organisation, PatientFacts, SubjectFacts
from ruqsat.core.instant import HOUR, at
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    RequestContext,
    Resource,
    ResourceProperties,
    Subject,
    SubjectProperties,
)
from ruqsat.duties import keeping_notices
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.break_glass import Ask, BreakGlass
from ruqsat.service.clock import SystemClock
from ruqsat.service.consent_changes import Call, Caller, new_id
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.notice_bodies import NoticeBodies
from ruqsat.service.record_seal import RecordSeal
from ruqsat.stores.policy_folder import load_texts
from ruqsat.stores.sql_database import upgrade_database

ROOT = Path(__file__).resolve().parent.parent
CLOCK = SystemClock()
EMPLOYER = Organisation("provider_medical", undertaking=True)
SESSION = {
    "reason_code": "unconscious", "reason_text": "measured, nobody lies here", "scope": [], "scope_confirmed": False,
    "acknowledgement": {"text_version": "1", "at": "2026-01-01T00:00:00Z"}, "minutes": None,
}  # fmt: skip


async def silent(_entry: Struct) -> None:
    """Journal nothing: no opening here brings anything that would be."""


def sessions_of(information: InformationPoint, rules: PolicySet) -> BreakGlass:
    """Build the use cases of one sidecar."""
    store, vocabulary = information._store, rules.vocabulary  # type: ignore[attr-defined]
    store.add_notices = keeping_notices(NoticeBodies(None), CLOCK.stamp)
    return BreakGlass(
        store, information, RecordSeal(bytes(32)), lambda: vocabulary, lambda: "", CLOCK.stamp, silent  # type: ignore[arg-type]
    )  # fmt: skip


async def is_let_through(asked: InformationPoint, rules: PolicySet, who: str, patient: str, session: str) -> bool:
    """Whether a reading at this moment is permitted."""
    request = EvaluationRequest(
        Subject("user", who, SubjectProperties(("emergency_clinician",), "h1")), Action("read"),
        Resource("Record", "r", ResourceProperties(patient=patient, data_class="labs", labels=())),
        RequestContext("BTG", btg_session=session),
    )  # fmt: skip
    while True:
        try:
            facts = asked.facts_now(who, patient) or await asked.fetch(who, patient)
            return evaluate(rules, request, facts, at(CLOCK.stamp()), frozenset()).allowed
        except StoreUnavailableError:  # a busy machine; the time goes on
            await asyncio.sleep(0.001)


async def measure(url: str, redis: str | None, tries: int, rules: PolicySet) -> tuple[list[float], list[float]]:
    """Return milliseconds of each opening, and from its acknowledgement to the first permit at the other."""
    async with AsyncExitStack() as stack:
        opener, asked = [await point(stack, url, redis) for _ in range(2)]
        sessions, openings, permits = sessions_of(opener, rules), [], []
        episode = Episode("e", "h1", "emergency", CLOCK.stamp() - HOUR)
        for number in range(tries):
            # A clinician and a patient of its own each time, so that no limit is met.
            who, patient = f"clinician-{number}", f"patient-{number}"
            person = SubjectFacts(who, roles=("emergency_clinician",), org="h1", organisation=EMPLOYER)
            await opener.record((person,), (PatientFacts(patient, episodes=(episode,)),))
            await asyncio.sleep(random.uniform(0, 1))  # spread over the period of the probe
            id_ = new_id(CLOCK.stamp())
            assert not await is_let_through(asked, rules, who, patient, id_)
            content = json.dumps(SESSION).encode()
            began = time.perf_counter()
            await sessions.open(
                Caller(who), SESSION | {"patient": patient}, Call(None, content), Ask(id_, f"d-{number}", "h1", True)
            )
            acknowledged = time.perf_counter()
            while not await is_let_through(asked, rules, who, patient, id_):  # noqa: ASYNC110 - asking is the measurement
                await asyncio.sleep(0.0005)
            openings.append((acknowledged - began) * 1000)
            permits.append((time.perf_counter() - acknowledged) * 1000)
        return sorted(openings), sorted(permits)


def told(took: list[float]) -> str:
    """Write quantiles down."""
    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
    return f"p50 {p50:.1f} ms  p99 {p99:.1f} ms  max {took[-1]:.1f} ms"


def main() -> None:
    """Measure both and print quantiles."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--tries", type=int, default=200)
    tries = words.parse_args().tries
    rules, _ = load_pack(load_texts(ROOT))
    assert rules is not None
    with TemporaryDirectory(prefix="ruqsat-bench-") as name:
        Path(name).chmod(0o755)
        with running_postgres(Path(name, "pg"), durable=True) as server, running_valkey(Path(name, "vk")) as valkey:
            for what, redis in (("with hints", f"redis://127.0.0.1:{valkey.port}"), ("without", None)):
                url = server.new_database()
                asyncio.run(upgrade_database(url))
                openings, permits = asyncio.run(measure(url, redis, tries, rules))
                print(f"{what:>10}: n={tries} opened in {told(openings)}; then to allow {told(permits)}", flush=True)


if __name__ == "__main__":
    main()
