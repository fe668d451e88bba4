"""Outcomes: once a report, by the point that asked, of a permit that is known; and what is still owed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from typer.testing import CliRunner

from ruqsat.cli.journal import app
from ruqsat.core.instant import parse_instant
from ruqsat.core.journal_filter import Found, Spot
from ruqsat.core.journaled import read_line
from ruqsat.core.outcomes import Outcome, OutcomeEntry, count_outcomes, missing_outcomes, read_outcome
from ruqsat.errors import JournalError, StoreUnavailableError
from ruqsat.service import outcomes as module
from ruqsat.service.entries import Named
from ruqsat.service.origin import Origin
from ruqsat.service.outcomes import OutcomeRefusedError, Outcomes
from ruqsat.stores.journal_segment import DurableJournal
from tests.replay.ground import QuietDisk
from tests.views.ground import NOW, written

MIS, OTHER = Origin("json", point="mis"), Origin("json", point="other")
DONE = Outcome("d-1", "done", 3)


class Paper:
    """What is journaled, and what the database holds."""

    def __init__(self, *lines: bytes, failure: Exception | None = None) -> None:
        """Hold these lines in the database."""
        self.entries: list[OutcomeEntry] = []
        self.lines, self.failure, self.asked = lines, failure, 0

    async def record(self, entry: Struct, named: Named) -> None:
        """Take an entry some turns of the loop later, or fail."""
        await asyncio.sleep(0.001)
        if self.failure is not None:
            raise self.failure
        assert isinstance(entry, OutcomeEntry)
        assert named == Named()
        self.entries.append(entry)

    async def by_id(self, entry: str) -> list[Found]:
        """Return what the database holds."""
        self.asked += 1
        said = [(read_line(line), line) for line in self.lines]
        return [Found(Spot(0, "w", 1, 1), one, line) for one, line in said if one is not None and one.id == entry]


def taking(*lines: bytes, failure: Exception | None = None) -> tuple[Outcomes, Paper]:
    """Return what takes reports, with one permit of the information system remembered."""
    paper = Paper(*lines, failure=failure)
    made = Outcomes(paper, paper, lambda: NOW)
    made.remember("d-1", MIS, "h1")
    return made, paper


def report(outcomes: Outcomes, outcome: Outcome, point: str = "mis") -> bool | str:
    """Report; return whether it was new, or the code of the refusal."""
    try:
        return asyncio.run(outcomes.report(outcome, point))
    except OutcomeRefusedError as error:
        return error.code


def test_what_came_of_a_decision_is_journaled_once() -> None:
    """With the decision's id, who told, for which organisation, and when; sent again it is no second entry."""
    outcomes, paper = taking()

    assert (report(outcomes, DONE), report(outcomes, DONE)) == (True, False)

    assert paper.entries == [
        OutcomeEntry("outcome", "d-1", "2026-11-26T10:00:00.000000Z", "json", "done", 3, None, "", "mis", "h1")
    ]
    assert paper.asked == 0


def test_under_one_key_there_is_one_report() -> None:
    """Another content under the same key is refused; under another key it is another report."""
    outcomes, paper = taking()
    report(outcomes, DONE)

    assert report(outcomes, Outcome("d-1", "failed")) == "key-reused"
    assert report(outcomes, Outcome("d-1", "failed", key="second-try")) is True
    assert [each.outcome for each in paper.entries] == ["done", "failed"]


def test_reports_that_come_at_once_are_one() -> None:
    """Whoever retries before the first is durable waits for it."""
    outcomes, paper = taking()

    async def story() -> list[bool]:
        return await asyncio.gather(*[outcomes.report(DONE, "mis") for _ in range(5)])

    assert sorted(asyncio.run(story())) == [False] * 4 + [True]
    assert len(paper.entries) == 1


def test_only_the_point_that_asked_may_report() -> None:
    """Not another one, not one without a name, not of a decision of the control API."""
    outcomes, paper = taking(written(7, point="mis"), written(8, listener="control"), written(9, listener="envoy"))

    assert report(outcomes, DONE, "other") == "not-yours"
    assert report(outcomes, DONE, "") == "not-yours"
    assert report(outcomes, Outcome("d-7", "done"), "other") == "not-yours"
    assert report(outcomes, Outcome("d-8", "done"), "") == "not-yours"
    assert report(outcomes, Outcome("d-9", "done"), "") == "not-yours"
    assert not paper.entries


def test_a_decision_that_nobody_knows_has_no_outcome() -> None:
    """Nor one that was never sent, nor a denial: of those there is nothing to carry out."""
    unsent = written(5), written(5, kind="not_sent", id="d-5")
    outcomes, paper = taking(*unsent, written(6, allowed=False))

    assert report(outcomes, Outcome("d-404", "done")) == "unknown-decision"
    assert report(outcomes, Outcome("d-5", "done"), "") == "unknown-decision"
    assert report(outcomes, Outcome("d-6", "done"), "") == "not-permitted"
    assert not paper.entries


def test_an_older_decision_is_known_from_the_journals_of_all() -> None:
    """So is what was reported of it before: the same again is no second entry, after a restart either."""
    entry = OutcomeEntry("outcome", "d-7", "2026-11-24T10:00:00Z", "json", "done", point="mis", key="k")
    line = b'{"hash":"00","prev":"00","n":8,' + msgspec.json.encode(entry)[1:] + b"\n"
    outcomes, paper = taking(written(7, point="mis"), line)

    assert report(outcomes, Outcome("d-7", "done", key="k")) is False
    assert report(outcomes, Outcome("d-7", "failed", key="k")) == "key-reused"
    assert report(outcomes, Outcome("d-7", "partially")) is True
    assert [each.outcome for each in paper.entries] == ["partially"]


@pytest.mark.parametrize("at", ["yesterday", "2026-11-26T10:00:00"])
def test_an_instant_without_an_offset_is_none(at: str) -> None:
    """When it happened must not be a guess."""
    assert report(taking()[0], Outcome("d-1", "done", at=at)) == "malformed"


def test_a_report_that_could_not_be_kept_may_be_sent_again() -> None:
    """It is not remembered as told; a database that is away is no answer either."""
    outcomes, paper = taking(failure=JournalError("full"))
    with pytest.raises(JournalError):
        asyncio.run(outcomes.report(DONE, "mis"))
    paper.failure = None
    assert report(outcomes, DONE) is True

    async def away(entry: str) -> list[Found]:
        raise StoreUnavailableError("away")

    paper.by_id = away  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailableError):
        asyncio.run(outcomes.report(Outcome("d-2", "done"), "mis"))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest permit is forgotten first, and then looked for in the database."""
    monkeypatch.setattr(module, "REMEMBERED", 3)
    outcomes, paper = taking()
    for number in range(2, 5):
        outcomes.remember(f"d-{number}", MIS, None)

    assert report(outcomes, Outcome("d-4", "done")) is True
    assert report(outcomes, Outcome("d-1", "done")) == "unknown-decision"
    assert paper.asked == 1
    assert len(outcomes._permits) == 3


LINES = [
    written(1), written(2), written(2, kind="not_sent", id="d-2"), written(3, allowed=False),
    written(4, listener="control"), written(5, point="mis"), written(6, at="2026-11-24T11:00:00.000000Z"),
    b'{"hash":"00","prev":"00","n":9,"kind":"outcome","id":"d-1","at":"","listener":"json","outcome":"failed"}\n',
    b'{"hash":"00","prev":"00","n":9,"kind":"outcome","id":"d-1","at":"","listener":"json","outcome":"done"}\n',
]  # fmt: skip


def test_what_is_owed_are_older_permits_without_a_report() -> None:
    """No denial, nothing that was never sent, no call of the control API; a report may come before its decision."""
    before = parse_instant("2026-11-24T10:30:00Z")

    assert [each.id for each in missing_outcomes(LINES, before)] == ["d-5"]
    assert [each.id for each in missing_outcomes(reversed(LINES), before)] == ["d-5"]
    assert [each.id for each in missing_outcomes(LINES, before, "nobody")] == []
    assert [each.id for each in missing_outcomes(LINES, NOW)] == ["d-5", "d-6"]
    assert count_outcomes(LINES) == {"done": 1}
    assert read_outcome(LINES[0]) is None


def test_the_command_lists_what_is_owed(tmp_path: Path) -> None:
    """Over the folders of several sidecars: the report may stand in another than the decision."""
    entries = {"a": [b'{"kind":"decision","id":"d-1","at":"2026-11-24T10:00:00Z","allowed":true,"listener":"json"}'],
               "b": [b'{"kind":"outcome","id":"d-1","at":"2026-11-24T10:00:00Z","listener":"json","outcome":"done"}']}  # fmt: skip

    async def main(folder: Path, lines: list[bytes]) -> None:
        journal = DurableJournal.open(folder, disk=QuietDisk())
        for line in lines:
            await journal.append(line)
        await journal.aclose()

    for name, lines in entries.items():
        asyncio.run(main(tmp_path / name, lines))
    one, both = [str(tmp_path / "a")], [str(tmp_path / "a"), str(tmp_path / "b")]

    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["outcomes", *words])

    assert (run(*one, "--missing").exit_code, run(*both, "--missing").exit_code) == (1, 0)
    assert run(*one, "--missing").output.splitlines()[-1] == "1 permit without an outcome after 15 minutes"
    assert json.loads(run(*one, "--missing", "--json").output)[0]["id"] == "d-1"
    assert run(*both).output == "1 done\n"
    assert run(*one).output == "no outcome was reported\n"
    assert json.loads(run(*both, "--json").output) == {"done": 1}
    for none in (tmp_path, tmp_path / "nowhere"):  # nothing is owed by whoever was not looked at
        refused = run(*both, str(none), "--missing")
        assert (isinstance(refused.exception, JournalError), refused.output) == (True, "")
