"""The morning: consents on record, ward rounds, one consent given and one withdrawn."""

from datetime import UTC, datetime

from examples.demo_day.day import Day, etag
from examples.demo_day.hospital import (
    AIGUL,
    FORMS,
    HOSPITAL,
    NEWCOMER,
    REFUSER,
    SERGEI,
    SINGER,
    WARDS,
    consent,
    consents_in_force,
    team,
)

DESK = "create consent operator_duty"
ROUND = {"therapy": (AIGUL, SERGEI, "p-009", "p-010"), "cardiology": (SINGER, "p-062", "p-063", "p-070"),
         "surgery": ("p-121", "p-122", "p-123", "p-130")}  # fmt: skip
"""Who is seen on the round; whoever's number ends with 0 has given no consent."""


def record_consents(day: Day) -> None:
    """Write down the consents of those who lie in the wards, of every form in turn, and one refusal of everything."""
    now, count = datetime.now(UTC), dict.fromkeys(FORMS, 0)
    for patient in consents_in_force(day.hospital):
        form = FORMS[patient.number % len(FORMS)]
        made = day.call("reg-saltanat", "POST", "consents", consent(patient, form, now), about=patient.id, as_=DESK)
        count[form] += made.json()["status"] == "active"
        day.told[patient.id] = made.json()["consent"]
    refusal = {"patient": REFUSER, "effect": "deny", "kind": "dissent"}
    day.call("pt-183", "POST", "consents", refusal, about=REFUSER, as_="consent_manage consent self")
    day.say(
        f"consents in force: {count['e_document']} signed electronically, {count['written']} on paper,"
        f" {count['egov_cabinet']} through the state service; {REFUSER} refuses everything"
    )  # fmt: skip


def ward_rounds(day: Day) -> None:
    """Physicians read through the hospital's system, nurses through the gate; who has no business there is refused."""
    for ward in WARDS:
        physician, nurse = (next(each for each in team(ward) if role in each.roles) for role in ("physician", "nurse"))
        for patient in ROUND[ward]:
            result = "deny.consent.none" if patient.endswith("0") else "consent"
            day.read(physician.id, patient, "labs", result)
            day.fetch(nurse.id, patient, "vitals", result)
    day.read("dr-timur", AIGUL, "labs", "deny.relationship.none")
    day.fetch("dr-erlan", AIGUL, "labs", "deny.consent.recipient", coarse="consent_required")


def consent_given(day: Day) -> None:
    """A newcomer signs a paper: it opens nothing until the desk has verified it and entered it under its signature."""
    now = datetime.now(UTC)
    tie = {"patient": NEWCOMER, "org": HOSPITAL, "kind": "encounter", "subject": "dr-olga", "start": now.isoformat()}
    day.call("mis-h7", "PUT", "relationships/visit-181", tie, about=NEWCOMER, as_="update status operator_duty")
    day.read("dr-olga", NEWCOMER, "labs", "deny.consent.none")
    paper = consent(day.hospital.patients[NEWCOMER], "written", now)
    checked = paper.pop("verification")
    draft = day.call("reg-marina", "POST", "consents", paper, about=NEWCOMER, as_=DESK)
    day.say(f"  the desk has the paper of {NEWCOMER}: {draft.json()['status']}")
    day.read("dr-olga", NEWCOMER, "labs", "deny.consent.none")
    path = f"consents/{draft.json()['consent']}/verify"
    done = day.call(
        "reg-marina", "POST", path, checked, about=NEWCOMER, as_="update consent operator_duty", headers=etag(draft)
    )
    day.say(f"  verified and entered: {done.json()['status']}")
    day.read("dr-olga", NEWCOMER, "labs", "consent")


def consent_withdrawn(day: Day) -> None:
    """Withdrawn at the portal; the very next read is refused, and so is what the gate is asked."""
    day.read("dr-asel", SERGEI, "conditions", "consent")
    path = f"consents/{day.told[SERGEI]}/withdraw"
    done = day.call("pt-002", "POST", path, about=SERGEI, as_="consent_manage consent self")
    day.say(f"  {SERGEI} withdraws at the portal: {done.json()['status']}")
    day.read("dr-asel", SERGEI, "conditions", "deny.consent.revoked")
    day.fetch("n-gulnar", SERGEI, "vitals", "deny.consent.revoked", coarse="consent_required")
