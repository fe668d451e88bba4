"""
The hospital of the day: 20 clinicians, 200 patients, made up from a seed.

Whoever is born in the nineteenth century has an identification number that is issued to nobody alive,
so that no number here can be a person's.  Names stay out of the sidecar: it knows opaque ids.
"""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from ruqsat.core.identification import control_digit
from ruqsat.messages import Language

HOSPITAL, CLINIC, COURT = "h7", "c2", "city-court"
PATIENTS = 200
WARDS = ("therapy", "cardiology", "surgery")
INPATIENTS = 60
"""So many patients lie in each ward; the rest come during the day, or not at all."""

SURNAMES = ("Abai", "Saryn", "Tolegen", "Ospan", "Zhuma", "Serik", "Kairat", "Belov", "Orlova", "Sidorov", "Kim")
GIVEN = ("Aigul", "Marat", "Dana", "Timur", "Olga", "Ivan", "Zhanar", "Bolat", "Vera", "Sabit", "Nina", "Erlan")
FORMS = ("e_document", "written", "egov_cabinet")


class Person(NamedTuple):
    """Somebody who can show a token: the claims of it, and the purpose that is stated where nothing else is said."""

    id: str
    roles: tuple[str, ...]
    org: str | None
    purpose: str
    ward: str | None = None
    patient: str | None = None
    kind: str = "user"

    @property
    def claims(self) -> dict[str, Any]:
        """What the issuer says of this person."""
        said: dict[str, Any] = {"sub": self.id, "roles": list(self.roles), "subject_type": self.kind}
        return said | {"purpose_of_use": self.purpose} | ({} if self.org is None else {"org": self.org})

    @property
    def facts(self) -> dict[str, Any]:
        """What the directory says of this person."""
        said: dict[str, Any] = {"id": self.id, "roles": list(self.roles)}
        if self.org is not None:
            said |= {"org": self.org, "organisation": PROVIDER}
        if self.ward is not None:
            said["groups"] = [f"ward:{self.ward}"]
        if self.patient is not None:
            said["patient_id"] = self.patient
        return said | ({"supervised_by": "dr-asel"} if "trainee" in self.roles else {})


PROVIDER = {"category": "provider_medical", "undertaking": True}


def _staff(role: str, purpose: str, *names: str, org: str = HOSPITAL, ward: str | None = None) -> list[Person]:
    kind = "service" if role == "system_mis" else "user"
    return [Person(name, (role,), org, purpose, ward, kind=kind) for name in names]


CLINICIANS = (
    *_staff("physician", "TREAT", "dr-asel", "dr-marat", ward="therapy"),
    *_staff("nurse", "TREAT", "n-gulnar", "n-irina", ward="therapy"),
    *_staff("physician", "TREAT", "dr-timur", "dr-olga", ward="cardiology"),
    *_staff("nurse", "TREAT", "n-aizhan", "n-svetlana", ward="cardiology"),
    *_staff("physician", "TREAT", "dr-kanat", "dr-elena", ward="surgery"),
    *_staff("nurse", "TREAT", "n-dinara", "n-botagoz", ward="surgery"),
    *_staff("emergency_clinician", "ETREAT", "ed-bolat", "ed-saule", "ed-nikolai", ward="emergency"),
    *_staff("nurse", "ETREAT", "n-zhanna", ward="emergency"),
    *_staff("lab_diagnostic", "TREAT", "lab-viktor"),
    *_staff("pharmacist", "TREAT", "ph-aliya"),
    *_staff("trainee", "TREAT", "tr-aruzhan", ward="therapy"),
    *_staff("physician", "TREAT", "dr-erlan", org=CLINIC),
)
OFFICES = (
    *_staff("registrar", "PATADMIN", "reg-saltanat", "reg-marina"),
    *_staff("records_officer", "PATRQT", "rec-marzhan"),
    *_staff("privacy_officer", "HCOMPL", "dpo-assel", "dpo-igor"),
    *_staff("system_mis", "PATADMIN", "mis-h7"),
)
GUARDIAN = Person("guardian-nurlan", ("legal_representative",), None, "PWATRNY")


LANGUAGE_OF: dict[str, Language] = {
    "dr-asel": "kk", "n-gulnar": "kk", "ed-bolat": "kk", "dr-olga": "en", "dr-erlan": "en"
}  # fmt: skip
"""In which language somebody reads; who is not here reads Russian."""


class Patient(NamedTuple):
    """A patient: the opaque id, and what stands in the paper that a desk copies from."""

    id: str
    number: int
    iin: str
    born: date
    surname: str
    given: str
    ward: str | None

    @property
    def account(self) -> Person:
        """The patient's own account at the portal."""
        return Person(f"pt-{self.number:03}", ("patient",), None, "PATRQT", patient=self.id, kind="patient")


class Hospital(NamedTuple):
    """Everybody."""

    patients: dict[str, Patient]
    people: dict[str, Person]

    def write(self, file: Path, now: datetime) -> None:
        """Write everybody as a file of facts: the directory, who lies where in whose care, which records there are."""
        subjects = [{"id": org, "roles": [], "organisation": PROVIDER} for org in (HOSPITAL, CLINIC)]
        subjects += [person.facts for person in self.people.values()]
        patients = [_facts(each, now) for each in self.patients.values()]
        head = {"ruqsat_facts": 1, "subjects": len(subjects), "patients": len(patients)}
        lines = [head, *({"subject": each} for each in subjects), *({"patient": each} for each in patients)]
        file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def build_hospital(seed: int) -> Hospital:
    """Make everybody up; the same seed makes the same people."""
    random = Random(seed)
    patients = [_patient(number, random) for number in range(1, PATIENTS + 1)]
    people = [*CLINICIANS, *OFFICES, GUARDIAN, *(each.account for each in patients)]
    return Hospital({each.id: each for each in patients}, {each.id: each for each in people})


def team(ward: str) -> list[Person]:
    """Return the physicians and nurses of a ward."""
    return [each for each in CLINICIANS if each.ward == ward and each.roles[0] in ("physician", "nurse")]


def record(patient: str, data_class: str) -> str:
    """Return the id of a patient's one record of a class."""
    return f"{data_class}-{patient.removeprefix('p-')}"


RECORDS = ("labs", "vitals", "medications", "allergies", "conditions", "documents")


def _patient(number: int, random: Random) -> Patient:
    born = date(1850 + random.randrange(50), 1 + random.randrange(12), 1 + random.randrange(28))
    ward = WARDS[(number - 1) // INPATIENTS] if number <= INPATIENTS * len(WARDS) else None
    return Patient(
        f"p-{number:03}", number, identification_number(born, number), born, random.choice(SURNAMES),
        random.choice(GIVEN), ward,
    )  # fmt: skip


def identification_number(born: date, number: int) -> str:
    """Return a number of the nineteenth century (its seventh digit is 1 or 2) whose control digit holds."""
    for serial in range(number * 10, number * 10 + 10):
        digits = f"{born:%y%m%d}{1 + number % 2}{serial:04}"
        last = control_digit(digits)
        if last is not None:
            return f"{digits}{last}"
    raise ValueError("no number of these ten is ever issued")


def _facts(patient: Patient, now: datetime) -> dict[str, Any]:
    since = (now - timedelta(days=3)).isoformat()
    facts: dict[str, Any] = {
        "id": patient.id, "birth_date": patient.born.isoformat(), "egov": True,
        "records": [
            {"id": record(patient.id, each), "type": "Record", "data_class": each, "labels": _labels(patient),
             "org": HOSPITAL}
            for each in RECORDS
        ],
    }  # fmt: skip
    if patient.ward is not None:
        facts["relationships"] = [
            {"kind": "encounter", "org": HOSPITAL, "subject": each.id, "start": since} for each in team(patient.ward)
        ]
    if patient.id == WARD_OF_COURT:
        facts |= {"incapacitated": True, "representations": [
            {"id": "power-1", "subject": GUARDIAN.id, "kind": "guardian", "verified": True, "start": since}
        ]}  # fmt: skip
    return facts


AIGUL, SERGEI, WARD_OF_COURT, LITIGANT = "p-001", "p-002", "p-003", "p-004"
LETTER, NAMELESS, CORRECTED, OBJECTOR, SINGER = "p-005", "p-006", "p-007", "p-010", "p-061"
NEWCOMER, FOUND_UNCONSCIOUS, REFUSER = "p-181", "p-182", "p-183"
"""Whom the day tells of: the first lie in a ward, the last three come today."""


def _labels(patient: Patient) -> list[str]:
    return ["VIP"] if patient.id == SINGER else []


def consents_in_force(hospital: Hospital) -> list[Patient]:
    """Return the patients who have given a consent before the day begins: all who lie there but one in ten."""
    return [
        each for each in hospital.patients.values()
        if each.ward is not None and each.number % 10 != 0 and each.id not in (WARD_OF_COURT, NEWCOMER)
    ]  # fmt: skip


def consent(patient: Patient, form: str, now: datetime) -> dict[str, Any]:
    """Return a consent with the eleven items of order §9 and the four of Law 94-V art. 8(4), as a desk hands it in."""
    at = (now - timedelta(days=2)).astimezone(UTC).isoformat()
    number = identification_number(date(1890, 1, 1), 900)
    contact = {"address": "Almaty, Abai 1", "phones": ["+7 727 000 00 00"], "postal": ["Almaty, box 7"]}
    return {
        "patient": patient.id, "effect": "permit", "kind": "processing",
        "owner": {
            "iin": patient.iin, "surname": patient.surname, "given": patient.given, "patronymic": None,
            "address": "Almaty, Satpaev 2",
            "id_doc": {"number": f"N{patient.number:08}", "issued_on": "2020-02-03", "issuer": "Civil Registry"},
        },
        "given_by": {"type": "patient", "id": patient.account.id},
        "operator": {
            "org": HOSPITAL, "kind": "legal_entity", "name": "Seventh City Hospital", "bin": "301240000011", **contact,
        },
        "responsible": [{"iin": number, "surname": "Akhmet", "given": "Saltanat", **contact}],
        "start": at, "end": (now + timedelta(days=365)).isoformat(), "purposes": ["TREAT"],
        "purpose_text": "Care in the Seventh City Hospital", "categories": ["demographics", "clinical"],
        "labels": _labels(patient),
        "actions": ["read", "search", "create", "update"], "methods_text": "electronic, in the hospital's system",
        "withdrawal_methods": ["at the portal", "in writing, at the desk"], "form": form,
        "signature": _signature(patient, form, at, now),
        "databases": [{"id": "mis-h7", "country": "KZ", "address": "Almaty, Abai 1"}],
        "third_party_transfer": False, "cross_border": [], "public_dissemination": False,
        "text_version": "2026-1", "language": "kk",
        "state_service_ref": "KDP-" + patient.id if form == "egov_cabinet" else None,
        "verification": _verification(form, at),
    }  # fmt: skip


def _signature(patient: Patient, form: str, at: str, now: datetime) -> dict[str, Any]:
    if form != "e_document":
        return {"kind": "handwritten" if form == "written" else "state_service_proof", "at": at}
    return {
        "kind": "patient_eds", "at": at, "cert_serial": f"{patient.number:016x}", "cert_iin": patient.iin,
        "cert_valid_from": (now - timedelta(days=100)).isoformat(),
        "cert_valid_to": (now + timedelta(days=100)).isoformat(), "hash": "9f" * 32,
    }  # fmt: skip


def _verification(form: str, at: str) -> dict[str, Any]:
    checked: dict[str, Any] = {"signature": {"ok": True, "method": "at the desk", "document_ref": "desk-1"}}
    if form == "written":
        checked["entry"] = {"at": at, "eds_serial": "0a1b", "bin": "301240000011", "scan_hash": "7c" * 32}
    return checked
