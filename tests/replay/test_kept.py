"""What the journal keeps for the replay: whole, once a segment, erasable, and nobody's way to spoil a line; the command."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from ruqsat.cli.journal import app
from ruqsat.core.cases import PolicyCase, situation
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.core.instant import Now
from ruqsat.core.kept_facts import read_facts_line
from ruqsat.core.personal import of_one
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import Inspection, LegalRequest, RequestContext
from ruqsat.core.world import World
from ruqsat.errors import JournalError, SettingsError
from ruqsat.service.replay import ERASED, SAME, Replayer
from ruqsat.stores import journal_groups
from ruqsat.stores.journal_erasure import erase_patients
from ruqsat.stores.journal_folder import list_segments, read_lines, segment_path
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.journal_verification import verify_folder
from ruqsat.stores.pack_file import write_pack_file
from tests.conformance.questions import Asked
from tests.conftest import ROOT
from tests.process.starter import run_cli
from tests.replay.ground import QuietDisk, journal_all

CASE = PolicyCase("read", "dr_aida read o1 TREAT", "allow.consent", "consent-01")
ENTRY = b'{"kind":"decision","id":"d"}'
runner = CliRunner()


@pytest.fixture
def asked(policy_set: PolicySet, world: World) -> Asked:
    """A question that the rules allow."""
    request, facts, now = situation(policy_set, world, CASE)
    return Asked("read", request, facts, Now(now.lo - 5, now.hi), frozenset({"redact", "suppress_total"}))


def with_parts(asked: Asked, *parts: dict[str, Any], **context: Any) -> Asked:
    """Return the question with parts, or other circumstances."""
    properties = asked.request.resource.properties
    assert properties is not None
    assert asked.request.context is not None
    if parts:
        properties = msgspec.structs.replace(properties, parts=parts)
    request = msgspec.structs.replace(
        asked.request, resource=msgspec.structs.replace(asked.request.resource, properties=properties),
        context=msgspec.structs.replace(asked.request.context, **context),
    )  # fmt: skip
    return asked._replace(request=request)


def counts(folder: Path, policy_set: PolicySet) -> dict[str, int]:
    """Make every decision of a folder again; return how many had which result."""
    replayer = Replayer(lambda beginning: policy_set if policy_set.digest.startswith(beginning) else None)
    for line in read_lines(folder):
        replayer.take(line)
    return replayer.counts


def kept_in(folder: Path) -> list[list[str | None]]:
    """Return the digests of the facts that each segment keeps."""
    texts = [each.path.read_bytes().splitlines(keepends=True) for each in list_segments(folder)]
    return [[kept.digest for line in lines if (kept := read_facts_line(line))] for lines in texts]


HOSTILE = (
    {"id": "x", "a": ["b"], "personal": [{"erased": "-"}]}, {"id": "x", "sealed": ["0" * 64], "personal": []},
    {"id": "x", "kind": "erasure", "parts": ["1:1:0"]}, {"kind": "facts", "of": "patient"}, {"erased": "---"},
    {"id": 'x"],"personal":[{"erased":"-"}]}', "kind": "segment"},
)  # fmt: skip


def test_words_of_a_question_are_never_taken_for_the_line_s(
    tmp_path: Path, policy_set: PolicySet, asked: Asked
) -> None:
    """Whatever a part of a request calls its members: the journal verifies, nothing counts as erased, all is replayed."""
    questions = [with_parts(asked, each) for each in HOSTILE]
    asyncio.run(journal_all(tmp_path, policy_set, questions))

    report = verify_folder(tmp_path)

    assert (report.findings, report.erased) == ((), 0)
    assert counts(tmp_path, policy_set) == {SAME: len(HOSTILE)}
    assert not any(b'{"erased":"' in line for line in read_lines(tmp_path))


def test_an_erased_patient_is_in_no_byte_and_in_no_fact(tmp_path: Path, policy_set: PolicySet, asked: Asked) -> None:
    """Questions, facts and digests of facts go; what was decided stays, said to be erased and never agreed to."""
    facts = msgspec.structs.replace(asked.facts, subject=SubjectFacts("dana-account", patient_id="p-dana"))
    asyncio.run(journal_all(tmp_path, policy_set, [asked, asked._replace(facts=facts)]))
    assert asked.facts.patient is not None
    digests = [each.digest.encode() for each in (facts.subject, asked.facts.patient) if each is not None]
    before = b"".join(read_lines(tmp_path))
    assert all(each in before for each in (b"p-dana", *digests))

    asyncio.run(erase_patients(tmp_path, ["p-dana"], "act 12", "2026-11-26T03:00:00+00:00", disk=QuietDisk()))

    after = b"".join(read_lines(tmp_path))
    assert not any(each in after for each in (b"p-dana", b"dana-account", *digests))
    assert verify_folder(tmp_path).intact
    assert counts(tmp_path, policy_set) == {ERASED: 2}


def test_what_was_known_of_a_clinician_goes_with_the_last_entry_that_it_decided(
    tmp_path: Path, policy_set: PolicySet, asked: Asked
) -> None:
    """Alone before an erased entry it would tell who asked; while another entry rests on it, it stays."""
    assert asked.facts.subject is not None
    other = msgspec.structs.replace(asked.facts, patient=PatientFacts("p-bota"))
    properties = msgspec.structs.replace(asked.request.resource.properties, patient="p-bota")
    about_other = msgspec.structs.replace(
        asked.request, resource=msgspec.structs.replace(asked.request.resource, properties=properties)
    )
    asyncio.run(journal_all(tmp_path, policy_set, [asked, asked._replace(facts=other, request=about_other)]))

    def erase(patient: str) -> bool:
        """Erase a patient; tell whether the clinician is still named anywhere."""
        asyncio.run(erase_patients(tmp_path, [patient], "act", "2026-11-26T03:00:00+00:00", disk=QuietDisk()))
        assert verify_folder(tmp_path).intact
        return b"dr_aida" in b"".join(read_lines(tmp_path))

    assert erase("p-dana")
    assert counts(tmp_path, policy_set) == {ERASED: 1, SAME: 1}
    assert not erase("p-bota")


OTHERS: dict[str, dict[str, Any]] = {
    "an inspection": {"inspection": Inspection("a1", ("p-other",))},
    "a request of an authority": {"legal_request": LegalRequest("r1", "court", "p-other")},
    "a launch": {"launch_patient": "p-other"},
}


@pytest.mark.parametrize("what", [*OTHERS, "a part"])
def test_a_question_that_names_another_patient_goes_with_that_one_and_nothing_else_does(
    tmp_path: Path, policy_set: PolicySet, asked: Asked, what: str
) -> None:
    """Who read the first patient's record stays in that patient's log when the second is erased; and the reverse."""
    part = {"id": "o9", "patient": "p-other", "class": "labs"}
    question = with_parts(asked, part) if what == "a part" else with_parts(asked, **OTHERS[what])
    asyncio.run(journal_all(tmp_path, policy_set, [question]))
    (line,) = [each for each in read_lines(tmp_path) if b'"kind":"decision"' in each]
    assert b"p-other" not in of_one(line, "p-dana")
    assert b"p-dana" in of_one(line, "p-dana")

    asyncio.run(erase_patients(tmp_path, ["p-other"], "act 13", "2026-11-26T03:00:00+00:00", disk=QuietDisk()))

    (line,) = [each for each in read_lines(tmp_path) if b'"kind":"decision"' in each]
    assert b"p-other" not in b"".join(read_lines(tmp_path))
    assert json.loads(line)["personal"][0]["subject"] == "dr_aida"
    assert b"p-dana" in line
    assert counts(tmp_path, policy_set) == {ERASED: 1}


def test_facts_are_kept_again_in_the_next_segment_and_when_they_change(tmp_path: Path) -> None:
    """Once a segment for each content; the same content read again is the same."""
    first, changed = PatientFacts("p1", egov=True), PatientFacts("p1")

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, segment_bytes=1200, disk=QuietDisk())
        for facts in (first, PatientFacts("p1", egov=True), changed, first, *[first] * 8):
            await journal.append(ENTRY, facts=(None, facts))
        await journal.aclose()

    asyncio.run(main())

    segments = kept_in(tmp_path)
    assert segments[0] == [first.digest, changed.digest]
    assert len(segments) > 2
    assert all(each == [first.digest] for each in segments[1:])


class Failing(QuietDisk):
    """A disk that refuses a write when told to."""

    fails = False

    def write(self, descriptor: int, data: memoryview) -> int:
        """Refuse, or write."""
        if self.fails:
            raise OSError(5, "Input/output error")
        return super().write(descriptor, data)


def test_facts_that_were_refused_are_kept_with_the_next_entry(tmp_path: Path) -> None:
    """What a failed group took with it is not believed to be there."""

    async def main() -> None:
        disk = Failing()
        journal = DurableJournal.open(tmp_path, disk=disk)
        disk.fails = True
        with pytest.raises(JournalError):
            await journal.append(ENTRY, facts=(PatientFacts("p1"),))
        disk.fails = False
        await journal.append(ENTRY, facts=(PatientFacts("p1"),))
        await journal.aclose()

    asyncio.run(main())

    assert kept_in(tmp_path) == [[PatientFacts("p1").digest]]


def test_what_is_remembered_of_facts_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the bound they are kept once more, and never left out."""
    monkeypatch.setattr(journal_groups, "MOST_FACTS", 3)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=QuietDisk())
        for number in (*range(5), 0):
            await journal.append(ENTRY, facts=(PatientFacts(f"p{number}"),))
            assert len(journal._groups._kept_facts) <= 3
        await journal.aclose()

    asyncio.run(main())

    assert kept_in(tmp_path) == [[PatientFacts(f"p{number}").digest for number in (*range(5), 0)]]


@pytest.fixture
def folder(tmp_path: Path, policy_set: PolicySet, asked: Asked) -> Path:
    """A journal of two decisions."""
    denied = with_parts(asked, purpose=("HMARKT",))
    asyncio.run(journal_all(tmp_path / "journal", policy_set, [asked, denied]))
    return tmp_path / "journal"


def run(*words: object) -> Any:
    """Run the command."""
    return runner.invoke(app, ["replay", *map(str, words)])


def test_the_command_says_what_it_made_again(folder: Path, tmp_path: Path, pack_texts: dict[str, bytes]) -> None:
    """From a pack's folder, a pack file or a folder of them; exit 0."""
    write_pack_file(tmp_path / "policy" / "releases" / "1.pack", pack_texts)

    for place in (ROOT, tmp_path / "policy" / "releases" / "1.pack", tmp_path / "policy"):
        result = run(folder, "--policies", place)
        assert (result.exit_code, result.output) == (0, "2 decisions made again, with the same answer\n"), result.output
    assert json.loads(run(folder, "--policies", ROOT, "--json").output) == {"counts": {"same": 2}, "different": []}


def test_the_command_takes_the_time_that_it_is_told(folder: Path, asked: Asked) -> None:
    """Nothing before, and what is no instant is refused."""
    assert "0 decisions" in run(folder, "--policies", ROOT, "--to", "2001-01-01T00:00:00Z").output
    assert "2 decisions" in run(folder, "--policies", ROOT, "--from", "2001-01-01T00:00:00Z").output
    assert run(folder, "--policies", ROOT, "--from", "yesterday").exit_code != 0


def test_a_policy_set_that_is_not_at_hand_is_said(folder: Path, tmp_path: Path, pack_texts: dict[str, bytes]) -> None:
    """Another set is never taken for the one that decided; a place without any is refused."""
    write_pack_file(
        tmp_path / "other.pack", pack_texts | {"policies/consent.csv": pack_texts["policies/consent.csv"] + b"\n"}
    )

    result = run(folder, "--policies", tmp_path / "other.pack")

    assert result.exit_code == 0
    assert "2 not made again: policy-missing: the policy set is not at hand" in result.output
    assert "0 decisions made again" in result.output
    assert run(folder, "--policies", tmp_path / "other.pack", "--strict").exit_code == 1
    assert run(folder, "--policies", ROOT, "--strict").exit_code == 0
    assert run(folder, "--policies", tmp_path / "nowhere").exit_code != 0


@pytest.mark.slow
def test_a_policy_set_is_found_among_the_releases_of_a_database(folder: Path, tmp_path: Path) -> None:
    """Where it was released, though no pack lies on this disk; a database that is not there is said, and not made."""
    urls = [f"sqlite:///{tmp_path / name}" for name in ("released.db", "typo.db")]
    shared = {"policy_source": "database", "policy_compare_seconds": "0.5"}
    published = run_cli(
        tmp_path, "policy", "publish", str(ROOT), "--author", "aida", "--reason", "first", timeout=120,
        database_url=urls[0], **shared,
    )  # fmt: skip
    assert published.returncode == 0, published.stdout + published.stderr

    result, other = (run(folder, "--database", url, "--strict") for url in urls)

    assert (result.exit_code, result.output) == (0, "2 decisions made again, with the same answer\n")
    assert isinstance(other.exception, SettingsError)
    assert "there is no such database file" in str(other.exception)
    assert not (tmp_path / "typo.db").exists()


def test_a_difference_is_shown_with_both_answers(folder: Path) -> None:
    """By the entry's id, and the exit code is 1; here the journal was written anew with the opposite answer."""
    from tests.replay.test_replay import PLANTED, spoilt  # noqa: PLC0415 - shared with the tests beside

    lines = spoilt(read_lines(folder), PLANTED["the opposite answer"][0])
    segment_path(folder, 1).write_bytes(b"".join(lines))
    assert verify_folder(folder).intact

    result, told = run(folder, "--policies", ROOT), run(folder, "--policies", ROOT, "--json")

    assert (result.exit_code, told.exit_code) == (1, 1)
    assert "journal  DENIED allow.consent rule=consent-01" in result.output
    assert "now      ALLOWED allow.consent rule=consent-01" in result.output
    assert "2 with another answer" in result.output
    (first, _) = json.loads(told.output)["different"]
    assert (first["told"]["allowed"], first["again"]["allowed"]) == (False, True)


def test_a_journal_that_is_not_intact_is_not_made_again(folder: Path) -> None:
    """One altered byte: exit 1, and nothing is said to agree."""
    path = segment_path(folder, 1)
    path.write_bytes(path.read_bytes().replace(b"allow.consent", b"allow.cONsent"))

    result = run(folder, "--policies", ROOT)

    assert result.exit_code == 1
    assert "made again, with" not in result.output


def test_a_context_without_anything_is_kept_as_such(tmp_path: Path, policy_set: PolicySet, asked: Asked) -> None:
    """What was not stated, and what was stated as empty, are told apart."""
    plain = asked._replace(request=msgspec.structs.replace(asked.request, context=None))
    empty = asked._replace(request=msgspec.structs.replace(asked.request, context=RequestContext(purpose=())))
    asyncio.run(journal_all(tmp_path, policy_set, [plain, empty]))

    assert counts(tmp_path, policy_set) == {SAME: 2}
