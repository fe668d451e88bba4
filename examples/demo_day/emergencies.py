"""The emergencies: one by default, one over a refusal, and one that was none."""

from datetime import UTC, datetime
from typing import Any

from examples.demo_day.day import Day
from examples.demo_day.hospital import FOUND_UNCONSCIOUS, HOSPITAL, REFUSER, SINGER

OPENINGS = {201: "operator_duty", 409: "deny.btg.no_episode", 403: "deny.btg.suspended"}
"""What the journal says of an opening, by how it was answered."""

NOTES = {
    "life": "Anaphylactic shock, no answer to adrenaline; allergies are needed at once.",
    "other": "Wanted to see how it goes.",
}


def arrives(day: Day, patient: str, encounter: str, form: str = "emergency") -> None:
    """Have the hospital's system report an emergency, as a FHIR Encounter; or an urgent episode, in the own form."""
    now = datetime.now(UTC).isoformat()
    if form == "emergency":
        body: dict[str, Any] = {
            "resourceType": "Encounter", "id": encounter, "status": "in-progress",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"},
            "subject": {"reference": f"Patient/{patient}"},
            "serviceProvider": {"reference": f"Organization/{HOSPITAL}"},
            "period": {"start": now},
        }  # fmt: skip
    else:
        body = {"patient": patient, "org": HOSPITAL, "form_of_care": form, "start": now}
    day.call("mis-h7", "PUT", f"episodes/{encounter}", body, about=patient, as_="update status operator_duty")
    day.say(f"  the hospital's system reports: {patient} arrives ({form})")


def leaves(day: Day, patient: str, encounter: str) -> None:
    """Have the hospital's system report that an episode is over."""
    day.call(
        "mis-h7", "POST", f"episodes/{encounter}/close", {"patient": patient, "org": HOSPITAL}, about=patient,
        as_="update status operator_duty",
    )  # fmt: skip
    day.say(f"  the hospital's system reports: the episode of {patient} is over")


def by_default(day: Day) -> None:
    """Unconscious, no consent, no refusal: order §4 opens what the emergency needs, while it lasts."""
    day.read("ed-bolat", FOUND_UNCONSCIOUS, "allergies", "deny.emergency.no_context")
    arrives(day, FOUND_UNCONSCIOUS, "er-1")
    day.read("ed-bolat", FOUND_UNCONSCIOUS, "allergies", "emergency_default")
    day.fetch("ed-bolat", FOUND_UNCONSCIOUS, "medications", "emergency_default")
    day.ask("ed-bolat", "create", FOUND_UNCONSCIOUS, "documents", "emergency_default", source="owner_statement")
    day.read("dr-kanat", FOUND_UNCONSCIOUS, "labs", "deny.consent.none")
    leaves(day, FOUND_UNCONSCIOUS, "er-1")
    day.read("ed-bolat", FOUND_UNCONSCIOUS, "allergies", "deny.emergency.no_context")


def open_session(day: Day, who: str, patient: str, code: str, text: str, expect: int = 201) -> Any:
    """Break the glass: reason, warning acknowledged, second factor."""
    body = {
        "patient": patient, "reason_code": code, "reason_text": text,
        "acknowledgement": {"text_version": "warning-1", "at": datetime.now(UTC).isoformat()}, "workstation": "er-12",
    }  # fmt: skip
    return day.call(
        who, "POST", "emergency-grants", body, about=patient, as_=f"create session {OPENINGS[expect]}",
        purpose="BTG", step_up=True, expect=expect,
    )  # fmt: skip


def over_a_refusal(day: Day) -> None:
    """The patient refused everything: the glass is broken, everybody concerned is told before anything is read."""
    arrives(day, REFUSER, "er-2")
    day.read("ed-saule", REFUSER, "allergies", "deny.emergency.btg_required")
    made = open_session(day, "ed-saule", REFUSER, "life_threat", NOTES["life"])
    session = day.told["justified"] = made.json()["id"]
    day.say(f"  ed-saule breaks the glass of {REFUSER}: {made.json()['status']}")
    day.told["notices_before"] = day.notices(REFUSER)
    day.read("ed-saule", REFUSER, "allergies", "emergency_override", purpose="BTG", btg_session=session)
    day.fetch("ed-saule", REFUSER, "medications", "emergency_override", purpose="BTG", session=session)
    day.fetch("ed-bolat", REFUSER, "medications", "deny.btg.subject_mismatch", purpose="BTG", session=session)
    day.call(
        "ed-saule", "POST", f"emergency-grants/{session}/close", about=REFUSER, as_="update session operator_duty",
        purpose="BTG",
    )  # fmt: skip
    day.fetch("ed-saule", REFUSER, "medications", "deny.btg.expired", purpose="BTG", session=session)
    leaves(day, REFUSER, "er-2")


def that_was_none(day: Day) -> None:
    """A surgeon is curious about a singer: refused without an emergency, and judged where there was one."""
    day.read("dr-kanat", SINGER, "labs", "deny.relationship.none")
    refused = open_session(day, "dr-kanat", SINGER, "other_with_text", NOTES["other"], expect=409)
    day.say(f"  dr-kanat tries to break the glass of {SINGER}: {refused.json()['title']}: {refused.json()['detail']}")
    arrives(day, SINGER, "er-3", "urgent")
    made = open_session(day, "dr-kanat", SINGER, "other_with_text", NOTES["other"])
    session = day.told["misuse"] = made.json()["id"]
    day.say(f"  dr-kanat breaks the glass of {SINGER}: {made.json()['status']}")
    day.read("dr-kanat", SINGER, "labs", "emergency_override", purpose="BTG", btg_session=session)
    day.call(
        "dr-kanat", "POST", f"emergency-grants/{session}/close", about=SINGER, as_="update session operator_duty",
        purpose="BTG",
    )  # fmt: skip
