"""The offices: a court asks, patients ask, and the privacy office judges."""

from datetime import UTC, datetime, timedelta
from typing import Any

from examples.demo_day.day import Day, etag
from examples.demo_day.emergencies import NOTES, open_session
from examples.demo_day.hospital import (
    CORRECTED,
    HOSPITAL,
    LETTER,
    LITIGANT,
    NAMELESS,
    OBJECTOR,
    REFUSER,
    SERGEI,
    SINGER,
    WARD_OF_COURT,
)

HEARING = "2-1140/26"
ANSWER = {
    "identity": {"method": "shown at the desk", "document_ref": "desk-7"}, "sources": ["owner_statement"],
    "methods": ["entered in the hospital's system"], "storage_terms": "25 years from the last visit",
}  # fmt: skip


def court(day: Day) -> None:
    """A court asks for results and diagnoses: handed on once it is verified, as far as it goes, until it is closed."""
    now = datetime.now(UTC)
    request = {
        "patient": LITIGANT, "authority": {"kind": "court", "name": "City Court", "bin": "301240000011"},
        "official": {"surname": "Akhmet", "given": "Bolat", "position": "judge"}, "request_no": "17/26",
        "requested_on": (now - timedelta(days=2)).date().isoformat(), "case_no": HEARING, "paragraph": "273(4)(3)",
        "categories": ["labs", "conditions"], "start": (now - timedelta(hours=1)).isoformat(),
        "end": (now + timedelta(days=30)).isoformat(), "document_ref": "scan-17",
    }  # fmt: skip
    made = _legal(day, "POST", "statutory-requests", request, "create")
    id_ = made.json()["id"]
    hand_on(day, id_, "labs", "deny.statutory.no_request", shown=False)
    done = _legal(day, "POST", f"statutory-requests/{id_}/verify", CHECKED, "update", headers=etag(made))
    day.say(f"  the request of the court is {done.json()['status']}")
    hand_on(day, id_, "labs", "kz273_4_3")
    hand_on(day, id_, "documents", "deny.statutory.scope", shown=False)
    _legal(day, "POST", f"statutory-requests/{id_}/close", None, "update")
    hand_on(day, id_, "conditions", "deny.statutory.no_request", shown=False)


CHECKED = {"ok": True, "method": "called the registry of the court", "document_ref": "call-3"}


def _legal(day: Day, method: str, path: str, body: Any, action: str, **more: Any) -> Any:
    return day.call(
        "rec-marzhan", method, path, body, about=LITIGANT, as_=f"{action} request operator_duty", purpose="HLEGAL",
        shown=False, **more,
    )  # fmt: skip


def hand_on(day: Day, request: str, data_class: str, result: str, *, shown: bool = True) -> None:
    """Ask whether a class may be handed to the court."""
    said = {
        "ref": request, "authority": "court", "case_no": HEARING, "patient": LITIGANT,
        "categories": ["labs", "conditions", "documents"], "verified": True,
    }  # fmt: skip
    day.ask("rec-marzhan", "disclose", LITIGANT, data_class, result, purpose="HLEGAL", shown=shown, legal_request=said)


def information_requests(day: Day) -> None:
    """Three ask what is on record of them: at the portal, by a letter of last week, with no proof of identity."""
    online = begin(day, "pt-002", SERGEI, "self", kind="information")
    letter = begin(day, "reg-saltanat", LETTER, "operator_duty", **by_letter(LETTER, timedelta(days=9)))
    nameless = begin(day, "reg-saltanat", NAMELESS, "operator_duty", **by_letter(NAMELESS, timedelta(0)))
    day.told |= {"online": online.json(), "letter": letter.json(), "nameless": nameless.json()}
    for name, made in (("at the portal", online), ("by letter, nine days ago", letter), ("by letter", nameless)):
        said = made.json()
        day.say(f"  asked {name}: {said['patient']}, due {said['due']} ({said['calendar']})")
    done = move(day, online, SERGEI, "answer", **ANSWER)
    refused = move(
        day, nameless, NAMELESS, "refuse", ground="no_identity_document", reasons="No document shows who applies."
    )
    day.say(f"  {SERGEI}: {done.json()['status']}; {NAMELESS}: {refused.json()['status']}")


def correction_and_objection(day: Day) -> None:
    """One has an entry corrected on documents; another objects to a refusal in the own log: a machine made it."""
    wrong = {"kind": "correction", "statement": "The blood group is another.", "documents": ["lab sheet of 2024"]}
    made = begin(day, "pt-007", CORRECTED, "self", **wrong)
    done = move(day, made, CORRECTED, "correct", result="Amended by a signed addendum; the old entry stands beside it.")
    day.settle()
    refused = next(row for row in day.log("pt-010", OBJECTOR, "ru", "self") if not row["allowed"])
    objection = begin(
        day,
        "pt-010",
        OBJECTOR,
        "self",
        kind="objection",
        decision=refused["id"],
        statement="A person shall look at it.",
    )
    day.told |= {"correction": made.json(), "objection": objection.json()}
    day.say(f"  {CORRECTED}: {done.json()['status']}, due was {made.json()['due']}")
    day.say(f"  {OBJECTOR} objects, due {objection.json()['due']}")


def by_letter(patient: str, ago: timedelta) -> dict[str, Any]:
    """Return a request for information as it came on paper."""
    at = (datetime.now(UTC) - ago).isoformat()
    applicant = {"kind": "patient", "surname": patient, "reply_to": "Almaty, Satpaev 2"}
    return {
        "kind": "information", "received_at": at, "channel": "post", "form": "paper", "applicant": applicant,
        "statement": "What do you keep of me?",
    }  # fmt: skip


def begin(day: Day, who: str, patient: str, basis: str, **said: Any) -> Any:
    """Open a proceeding."""
    as_ = f"create proceeding {basis}"
    return day.call(who, "POST", "proceedings", {"patient": patient, "org": HOSPITAL, **said}, about=patient, as_=as_)


def move(day: Day, before: Any, patient: str, event: str, **said: Any) -> Any:
    """Let the records office do something about a proceeding."""
    path = f"proceedings/{before.json()['id']}/{event}"
    return day.call(
        "rec-marzhan", "POST", path, said, about=patient, as_="update proceeding operator_duty", headers=etag(before)
    )


def reviews(day: Day) -> None:
    """The privacy office judges both sessions: one was needed, one was not, and the surgeon's right is suspended."""
    notes = {"justified": "Shock, documented; unforeseen by the refusal.", "misuse": "No part in the care; curious."}
    for verdict, patient in (("justified", REFUSER), ("misuse", SINGER)):
        path = f"emergency-grants/{day.told[verdict]}"
        seen = day.call("dpo-igor", "GET", path, about=patient, as_="read session operator_duty")
        judged = day.call(
            "dpo-igor", "POST", f"{path}/review", {"verdict": verdict, "note": notes[verdict]}, about=patient,
            as_="update session operator_duty", headers=etag(seen),
        )  # fmt: skip
        day.say(f"  {seen.json()['subject']} for {patient}: {judged.json()['status']}")
    refused = open_session(day, "dr-kanat", SINGER, "other_with_text", NOTES["other"], expect=403)
    day.say(f"  dr-kanat tries again: {refused.json()['title']}")


def answer_the_letter(day: Day) -> None:
    """The overdue letter is answered at last, and the record says that it was late."""
    seen = day.call(
        "rec-marzhan", "GET", f"proceedings/{day.told['letter']['id']}", about=LETTER,
        as_="read proceeding operator_duty",
    )  # fmt: skip
    seen = day.call(
        "rec-marzhan", "POST", f"proceedings/{day.told['letter']['id']}/answer", ANSWER, about=LETTER,
        as_="update proceeding operator_duty", headers=etag(seen),
    )  # fmt: skip
    day.say(f"  {LETTER}: {seen.json()['status']}")


def guardian_reads(day: Day) -> None:
    """The guardian of an incapacitated patient reads the ward's record and is refused another's."""
    day.fetch("guardian-nurlan", WARD_OF_COURT, "labs", "legal_rep")
    day.fetch("guardian-nurlan", LITIGANT, "labs", "deny.rep.none")
