"""The day in the hospital: what patients, the representative and the privacy office see is what was done, and nothing else."""

import copy
import csv
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from examples.demo_day.__main__ import live, opened_hospital
from examples.demo_day.day import Day
from examples.demo_day.hospital import (
    AIGUL,
    CLINICIANS,
    CORRECTED,
    FOUND_UNCONSCIOUS,
    HOSPITAL,
    LETTER,
    LITIGANT,
    NAMELESS,
    NEWCOMER,
    OBJECTOR,
    RECORDS,
    REFUSER,
    SERGEI,
    SINGER,
    WARD_OF_COURT,
    build_hospital,
)

from ruqsat.core.identification import is_identification_number
from tests.demo_day.checks import last_day, log_differs, reached_wrongly, untold
from tests.process.checker import entries_in
from tests.sidecar import ADMITTED

pytestmark = pytest.mark.slow

NOBODY = "p-190"
"""A patient to whom nothing happens."""

CAST = (AIGUL, SERGEI, LITIGANT, LETTER, NAMELESS, CORRECTED, OBJECTOR, SINGER, NEWCOMER, FOUND_UNCONSCIOUS, REFUSER)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """The day after its last scene, with everything still running."""
    folder = tmp_path_factory.mktemp("day")
    with opened_hospital(folder, seed=7, policy_dir=ADMITTED.name) as lived:
        live(lived, folder / "paper")
        lived.settle()
        yield lived


def log(day: Day, patient: str, who: str | None = None) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return what was done before somebody looks, and what is seen then."""
    day.settle()
    done = list(day.asked)
    reader = who or day.hospital.patients[patient].account.id
    return done, day.log(reader, patient, "en", "self" if who is None else "legal_rep")


def test_the_hospital_is_made_from_its_seed() -> None:
    """20 clinicians in several roles and wards, 200 patients with numbers that hold and that nobody alive has."""
    one, again, other = (build_hospital(seed).patients for seed in (7, 7, 8))
    assert one == again != other and len(one) == 200
    assert len(CLINICIANS) == 20 and len({each.roles for each in CLINICIANS}) >= 5
    assert len({each.ward for each in CLINICIANS} - {None}) >= 4
    assert all(is_identification_number(each.iin) and each.iin[6] in "12" for each in one.values())
    assert len({each.iin for each in one.values()}) == 200 and max(each.born.year for each in one.values()) < 1900


@pytest.mark.slow
def test_each_patient_sees_exactly_what_was_done(day: Day) -> None:
    """Who, when, class, purpose, ground, emergencies marked, denials; one to whom nothing happened sees the own look."""
    for patient in (*CAST, NOBODY):
        done, rows = log(day, patient)
        assert log_differs(done, patient, rows) == [], patient
        # What the law keeps from the log is not in it: the register of requests, and attempts that it let nobody make.
        assert not {each["class"]["code"] for each in rows} & {"request"}
    _, rows = log(day, NOBODY)
    assert {each["action"]["code"] for each in rows} == {"journal_read"}


def test_the_representative_sees_the_ward_and_nobody_else(day: Day) -> None:
    """The same of the ward's log; another's is refused."""
    done, rows = log(day, WARD_OF_COURT, "guardian-nurlan")
    assert log_differs(done, WARD_OF_COURT, rows) == [] and rows
    day.call(
        "guardian-nurlan", "GET", f"patients/{AIGUL}/access-log", about=AIGUL, expect=403,
        as_="journal_read journal deny.rep.none",
    )  # fmt: skip
    day.call("pt-002", "GET", f"patients/{AIGUL}/access-log", expect=403)


def test_the_emergencies_are_marked(day: Day) -> None:
    """By default and over a refusal; nothing else of the two patients is."""
    marked = {
        patient: [(row["who"]["person"], row["class"]["code"]) for row in log(day, patient)[1] if row["emergency"]]
        for patient in (FOUND_UNCONSCIOUS, REFUSER, SINGER)
    }
    assert marked == {
        FOUND_UNCONSCIOUS: [("ed-bolat", "documents"), ("ed-bolat", "medications"), ("ed-bolat", "allergies")],
        REFUSER: [("ed-saule", "medications"), ("ed-saule", "allergies")],
        SINGER: [("dr-kanat", "labs")],
    }


@pytest.mark.parametrize(
    "bug", ["drops one", "shows another's", "another person", "no emergency", "other class", "late"]
)
def test_a_log_that_is_wrong_in_one_place_is_noticed(day: Day, bug: str) -> None:
    """Planted in what the sidecar answered: the comparison above would fail."""
    done, rows = log(day, REFUSER)
    _, others = log(day, AIGUL)
    wrong = copy.deepcopy(rows)
    place = next(number for number, row in enumerate(wrong) if row["emergency"])
    match bug:
        case "drops one":
            del wrong[place]
        case "shows another's":
            wrong.insert(place, others[-1])
        case "another person":
            wrong[place]["who"]["person"] = "ed-bolat"
        case "no emergency":
            wrong[place]["emergency"] = False
        case "other class":
            wrong[place]["class"]["code"] = "labs"
        case "late":
            moved = datetime.fromisoformat(wrong[place]["at"]) + timedelta(minutes=1)
            wrong[place]["at"] = moved.isoformat()
    assert log_differs(done, REFUSER, rows) == [] != log_differs(done, REFUSER, wrong)


def test_the_officer_had_both_reviews_to_do_with_their_days(day: Day) -> None:
    """As they are due, 72 hours after they were opened; none is left after the reviews."""
    sessions, _ = day.told["queue"]
    assert [(each["id"], each["subject"], each["patient"]) for each in sessions] == [
        (day.told["justified"], "ed-saule", REFUSER), (day.told["misuse"], "dr-kanat", SINGER)
    ]  # fmt: skip
    for each in sessions:
        opened = next(
            row for row in day.asked if row.who == each["subject"] and row.data_class == "session" and row.allowed
        )
        due = datetime.fromisoformat(each["review_due"]).timestamp() - 72 * 3600
        assert opened.before <= due <= opened.after and not each["overdue"]
    assert day.queue("dpo-assel")[0] == []


def test_what_is_owed_is_due_by_the_working_calendar(day: Day) -> None:
    """Three days for information and objections, one for a correction; the letter of last week is late."""
    _, owed = day.told["queue"]
    told = [
        (each["kind"], each["patient"], each["due"], each["overdue"]) for each in owed if each["kind"] != "withdrawal"
    ]
    letter, objection = day.told["letter"]["due"], day.told["objection"]["due"]
    assert told == [("information", LETTER, letter, True), ("objection", OBJECTOR, objection, False)]
    received = {each["patient"]: date.fromisoformat(each["received_on"]) for each in owed}
    today = received[OBJECTOR]
    for name, since, days in (
        ("letter", received[LETTER], 3), ("objection", today, 3), ("online", today, 3), ("nameless", today, 3),
        ("correction", today, 1),
    ):  # fmt: skip
        assert day.told[name]["due"] == last_day(since, days).isoformat(), name
    assert (today - received[LETTER]).days == 9
    _, left = day.queue("dpo-assel")
    assert {each["patient"] for each in left if each["kind"] != "withdrawal"} == {OBJECTOR}


def test_the_answer_on_what_is_on_record_says_what_there_is(day: Day) -> None:
    """Each class once, the consent with its withdrawal, who was let in and until when, what the office says."""
    answer = day.told["answer"]
    assert answer["exists"] is True and "draft" not in answer
    assert answer["classes"] == [{"class": name, "records": 1, "blocked": 0} for name in sorted(RECORDS)]
    assert (answer["purposes"], answer["sources"]) == (["TREAT"], ["owner_statement"])
    assert answer["actions"] == ["create", "read", "search", "update"] and len(answer["methods"]) == 2
    consent, recipient = answer["consents"][0], answer["recipients"][0]
    assert (len(answer["consents"]), len(answer["recipients"])) == (1, 1)
    assert (consent["id"], consent["status"]) == (day.told[SERGEI], "revoked")
    withdrawn = next(each for each in day.asked if each.who == "pt-002" and each.action == "consent_manage")
    assert withdrawn.before <= datetime.fromisoformat(consent["withdrawn_at"]).timestamp() <= withdrawn.after
    assert (recipient["ground"], recipient["until"]) == ("consent", consent["withdrawn_at"])
    assert answer["storage_terms"].startswith("25 years")


def test_everybody_concerned_is_on_record_as_told_before_the_glass_lets_anybody_read(day: Day) -> None:
    """The alert of the office and the patient's notice; without the alert, or made after the permit, it is noticed."""
    entries = entries_in(day.sidecar.journal)
    first = next(each for each in entries if each.get("basis") == "emergency_override" and each["patient"] == REFUSER)
    notices = day.told["notices_before"]
    assert untold(notices, REFUSER, first["at"]) == set()
    assert untold([each for each in notices if each["kind"] != "alert"], REFUSER, first["at"]) == {
        ("privacy_officer", "alert")
    }
    assert untold([each | {"created_at": first["at"]} for each in notices], REFUSER, first["at"]) != set()


def test_who_was_told_of_what_is_what_happened(day: Day) -> None:
    """Each once, well signed; of an opening that was refused nobody is told as of one that was not."""
    told = list(day.receiver.told.values())

    def of(patient: str, audience: str) -> list[tuple[str, str]]:
        found = [each for each in told if (each["patient"], each["audience"]) == (patient, audience)]
        return sorted((each["kind"], each["facts"]["by"]) for each in found if each["kind"] != "review")

    assert day.receiver.forged == 0
    assert of(AIGUL, "patient") == [("supplement", "reg-saltanat"), ("use", "dr-asel"), ("use", "n-gulnar")]
    assert of(FOUND_UNCONSCIOUS, "patient") == [("supplement", "ed-bolat"), ("use", "ed-bolat"), ("use", "ed-bolat")]
    assert of(SINGER, "patient") == [
        ("supplement", "dr-kanat"), ("supplement", "reg-saltanat"), ("use", "dr-kanat"), ("use", "dr-timur"),
        ("use", "n-aizhan"),
    ]  # fmt: skip
    assert of(SINGER, "privacy_officer") == [("alert", "dr-kanat")] * 3  # opened, used, suspended
    assert of(NOBODY, "patient") == []


def test_no_denied_read_reached_anything(day: Day) -> None:
    """The records server saw what was let through, in its order; one more, or one less, is noticed."""
    seen, denied = day.records.seen, [each for each in day.asked if not each.allowed]
    assert reached_wrongly(seen, day.forwarded) == [] and len(seen) > 10 and len(denied) > 20
    assert reached_wrongly(seen[1:], day.forwarded) != [] != reached_wrongly([*seen, {"target": "/x"}], day.forwarded)


def test_the_office_takes_away_what_its_people_did(day: Day) -> None:
    """Each deed of the hospital's staff is a line of the export, the refused ones, too; no other organisation's is."""
    with (day.sidecar.folder / "paper" / "journal.csv").open(newline="") as file:
        lines = [each for each in csv.DictReader(file) if each["kind"] == "decision"]
    ours = {each.id for each in day.hospital.people.values() if each.org == HOSPITAL}
    told = {(each["subject"], each["patient"], each["action"], each["data_class"]) for each in lines}
    done = {(each.who, each.patient, each.action, each.data_class) for each in day.asked if each.who in ours}
    # The tests look as the office themselves, after the export.
    assert {each for each in done if each[2] not in ("journal_read", "search")} <= told
    assert {each["subject"] for each in lines} <= ours


def test_the_journal_is_as_it_was_written(day: Day) -> None:
    """The command says so, with the key that signs it."""
    assert day.told["verified"] == 0
    checked = day.sidecar.run("journal", "verify", str(day.sidecar.journal), "--key", day.sidecar.journal_key)
    assert checked.returncode == 0, checked.stdout


def test_what_is_printed_and_what_is_written_down_is_theirs(day: Day) -> None:
    """Three languages on the screen; a page each, in its language, with nobody else's patient in it."""
    printed = "\n".join(day.printed)
    for title in ("Деректеріңізге қол жеткізу журналы", "Журнал доступа к вашим данным", "Journal of accesses"):
        assert title in printed
    for words in ("рұқсат етілді", "нужно согласие пациента", "возможно экстренное вскрытие", "break-glass-no-episode"):
        assert words in printed
    paper: Path = day.sidecar.folder / "paper"
    for patient, language in ((AIGUL, "kk"), (SERGEI, "ru"), (NEWCOMER, "en"), (WARD_OF_COURT, "ru")):
        page = (paper / f"access-log-{patient}.{language}.html").read_text()
        assert f'<html lang="{language}">' in page and patient in page
        assert not [each for each in day.hospital.patients if each != patient and each in page]
    answer = (paper / f"answer-{SERGEI}.ru.html").read_text()
    assert "разрешено, отозвано" in answer and "Seventh City Hospital" in answer
