"""On a full disk: no allow without its entry, so emergencies while the reserve lasts, and denials."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from journal_helpers import lines_in
from simulated_disk import FullDisk
from tests.clocks import FixedClock
from tests.mutants import plant
from tests.service.test_decision_point import ALLOWED, ORIGIN, Known
from tests.service.test_degraded import EMERGENCY

from ruqsat.core.cases import PolicyCase, situation
from ruqsat.core.personal import lifted
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.world import World
from ruqsat.service import drafts
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.freshness import Freshness
from ruqsat.service.metrics import Metrics
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.journal_verification import verify_folder

Ask = Callable[..., list[str]]
BROKEN_GLASS = PolicyCase("broken glass", "ed_bolat read m1 BTG", "", context={"btg_session": "s-bolat"})


@pytest.fixture
def asked_twice(policy_set: PolicySet, world: World, tmp_path: Path) -> Ask:
    """Ask about a case on a full disk, and again when it has space; tell the reasons."""

    def ask(case: PolicyCase, reserve: int = 1 << 16) -> list[str]:
        request, facts, now = situation(policy_set, world, case)
        disk = FullDisk()

        async def story() -> list[str]:
            journal = DurableJournal.open(tmp_path / "journal", disk=disk, reserve_bytes=reserve)
            clock = FixedClock(now.hi)
            point = DecisionPoint(policy_set, Known(facts), Freshness(bytes(32)), journal, clock, Metrics())
            disk.is_full = True
            answers = [await point.decide(request, ORIGIN)]
            disk.is_full = False
            answers.append(await point.decide(request, ORIGIN))
            await journal.aclose()
            kept = {
                line["id"]: line["allowed"] for line in lines_in(tmp_path / "journal") if line["kind"] == "decision"
            }
            assert all(kept[answer.id] for answer in answers if answer.decision.allowed)
            return [answer.decision.reason for answer in answers]

        return asyncio.run(story())

    return ask


@pytest.mark.parametrize(
    ("case", "reason"),
    [(BROKEN_GLASS, "allow.emergency.override"), (EMERGENCY, "allow.emergency.default")],
    ids=["break-glass", "emergency by default"],
)
def test_emergency_is_allowed_and_journaled_on_a_full_disk(
    asked_twice: Ask, tmp_path: Path, case: PolicyCase, reason: str
) -> None:
    """A broken glass, and an emergency by default, go on; their entries are in the chain, with whom they name."""
    assert asked_twice(case) == [reason, reason]

    lines = [line for file in sorted((tmp_path / "journal").glob("*.jsonl")) for line in file.read_bytes().splitlines()]
    first = next(lifted(line) for line in lines if json.loads(line)["kind"] == "decision")
    assert (first["subject"], first["reason"]) == ("ed_bolat", reason)
    assert [line["because"] for line in lines_in(tmp_path / "journal") if line["kind"] == "segment"][1] == "reserve"
    assert verify_folder(tmp_path / "journal").intact


def test_everything_else_is_denied_on_a_full_disk(asked_twice: Ask, tmp_path: Path) -> None:
    """Planned care is denied for want of a journal, leaves the reserve whole, and is allowed when there is space."""
    assert asked_twice(ALLOWED) == ["deny.audit_unavailable", "allow.consent"]

    assert (tmp_path / "journal" / "journal.reserve").exists()


def test_without_a_reserve_emergencies_are_denied_too(asked_twice: Ask) -> None:
    """No entry, no allow: not even for an emergency."""
    told = asked_twice(BROKEN_GLASS, reserve=0)

    assert told == ["deny.audit_unavailable", "allow.emergency.override"]


def test_planted_point_that_calls_everything_an_emergency_is_noticed(
    asked_twice: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were planned care written into the reserve, it would be allowed on a full disk: the test above would say so."""
    planted = plant(drafts, "return basis is not None and basis.in_reserve", "return True")
    monkeypatch.setattr("ruqsat.service.decision_point.Drafts", planted.Drafts)

    assert asked_twice(ALLOWED)[0] == "allow.consent"
