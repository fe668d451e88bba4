"""Who works in the hospitals, and who is cared for there; nobody exists."""

from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from random import Random

import msgspec
from bench.clinic_rules import hospital_id
from bench.world import MOMENT, Person, Question, Written

from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    Episode,
    Facts,
    Grantee,
    Organisation,
    PatientFacts,
    Position,
    Provision,
    RecordStatus,
    Relationship,
    SubjectFacts,
)
from ruqsat.core.instant import DAY, HOUR, MINUTE, Instant

STAFF = {
    "physician": 6, "nurse": 4, "emergency_clinician": 2, "lab_diagnostic": 1, "pharmacist": 1, "trainee": 1,
    "registrar": 1, "quality_expert": 1,
}  # fmt: skip
OUTSIDE = ("h-out-a", "h-out-b")
"""Two hospitals that have no rules of their own, so that there is somebody else in the smallest world too."""
CLASSES = ("labs", "imaging", "medications", "allergies", "conditions", "procedures", "vitals", "documents")
_LABELS = ("PSY", "SUD", "HIV", "PSYTHPN")
_PROVIDER = Organisation("provider_medical", True)


def staff_id(role: str, org: str, which: int) -> str:
    """Return the id of a member of staff."""
    return f"{role}-{org}-{which}"


def patient_id(number: int) -> str:
    """Return the id of a patient."""
    return f"p{number:07d}"


class ClinicPeople(Written):
    """
    Hospitals, their staff and patients.

    Args:
        seed: Settles everything else that is left to chance.
        hospitals: 1 to 300 (SAPL's 1 x to 300 x).
        patients: 50 or more.
        moment: When the world is; documents began before it and end after it, break-glass sessions end four hours
            after it.  Whoever asks a running sidecar takes the present.
    """

    def __init__(self, seed: int = 1, hospitals: int = 1, patients: int = 1_000, moment: Instant = MOMENT) -> None:
        assert hospitals >= 1 and patients >= 50
        self.seed, self.hospitals, self.patients, self.moment = seed, hospitals, patients, moment
        self.orgs = (*(hospital_id(number) for number in range(hospitals)), *OUTSIDE)
        self._known: dict[str, SubjectFacts] = {}
        self._patient = lru_cache(maxsize=4096)(self._make_patient)

    def people(self) -> Iterator[Person]:
        """Yield organisations and staff, patients' and delegates' own entries, then every patient."""
        yield from self.staff()
        for number in range(self.patients):
            yield from self._cabinet(number)
        for number in range(self.patients):
            yield self._make_patient(number)

    def staff(self) -> Iterator[SubjectFacts]:
        """Yield every organisation, and who works there."""
        for org in self.orgs:
            yield SubjectFacts(org, roles=(), organisation=_PROVIDER)
            for role, count in STAFF.items():
                for which in range(count):
                    yield self._member(role, org, which)

    def _member(self, role: str, org: str, which: int) -> SubjectFacts:
        supervisor = staff_id("physician", org, 0) if role == "trainee" else None
        return SubjectFacts(
            staff_id(role, org, which), roles=(role,), org=org, supervised_by=supervisor, organisation=_PROVIDER
        )

    def _cabinet(self, number: int) -> Iterator[SubjectFacts]:
        """The own entry of each tenth patient, and of the delegate of each tenth."""
        if number % 10 == 0:
            yield SubjectFacts(f"own-{patient_id(number)}", roles=("patient",), patient_id=patient_id(number))
        if number % 10 == 2:
            yield SubjectFacts(f"kin-{patient_id(number)}", roles=("delegate",))

    def patient(self, name: str) -> PatientFacts:
        """Return what the store knows of a patient at the beginning."""
        return self._patient(int(name[1:]))

    def subject(self, name: str) -> SubjectFacts:
        """Return what the directory knows of somebody."""
        if not self._known:
            self._known = {each.id: each for each in self.staff()}
        if name in self._known:
            return self._known[name]
        return next(each for each in self._cabinet(int(name.rpartition("-p")[2])) if each.id == name)

    def facts_of(self, question: Question) -> Facts:
        """Return what the store knows of those in a question, at the beginning."""
        patient = self.patient(question.patient) if question.patient is not None else None
        return Facts(self.subject(question.subject), patient, Position("bench", 1))

    def own(self, number: int) -> str:
        """Return the hospital that a patient is a patient of."""
        return self.orgs[number % self.hospitals]

    def _make_patient(self, number: int) -> PatientFacts:
        """Every fifth has an open emergency, every fiftieth a broken glass, every tenth a delegate."""
        chance, name, own = Random(self.seed << 32 | number), patient_id(number), self.own(number)
        other, third = chance.sample([org for org in (*chance.choices(self.orgs, k=4), *OUTSIDE) if org != own], 2)
        given = self.moment - chance.randrange(1, 300) * DAY
        labels = tuple(chance.sample(_LABELS[:3], chance.randrange(3)))
        documents = [
            self._permit(1, name, own, given, labels, ("read", "search", "create", "update")),
            self._permit(2, name, other, given, (), ("read", "search")),
        ]
        if chance.random() < 0.05:
            documents[0] = msgspec.structs.replace(documents[0], status="revoked", revoked_at=self.moment - DAY)
        if chance.random() < 0.3:
            refusal = Provision("deny", (Grantee(org=third),), ("TREAT",), start=given)
            documents.append(
                Consent(f"c3-{name}", f"{name}|{third}|dissent", "active", given, refusal, "dissent", giver=name)
            )
        delegations: tuple[Delegation, ...] = ()
        if number % 10 == 2:
            delegations = (self._delegation(name),)
            documents.append(self._permit(4, name, OUTSIDE[0], given, (), ("read",), delegations))
        kind, day = ("emergency", 0) if number % 5 == 1 else ("planned", 1)
        grants = (self._grant(name, own),) if number % 50 == 1 else ()
        return PatientFacts(
            name,
            birth_date=date(1930 + chance.randrange(69), chance.randrange(1, 13), 15),
            egov=chance.random() < 0.5,
            consents=tuple(documents),
            delegations=delegations,
            grants=grants,
            episodes=(Episode(f"e-{name}", own, kind, self.moment - day * DAY - HOUR),),  # type: ignore[arg-type]
            relationships=(Relationship("encounter", org=own), Relationship("referral", org=other)),
            records=tuple(self._record(name, which, chance) for which in range(4)),
        )

    def _permit(
        self, which: int, name: str, org: str, given: Instant, labels: tuple[str, ...], actions: tuple[str, ...],
        delegations: tuple[Delegation, ...] = (),
    ) -> Consent:  # fmt: skip
        purposes = ("TREAT", "TRAIN", "PATADMIN", "HQUALIMP") if which == 1 else ("TREAT",)
        root = Provision(
            "permit", (Grantee(org=org),), purposes, actions, ("demographics", "clinical", "consent"), labels,
            given, self.moment + 365 * DAY,
        )  # fmt: skip
        kind = "delegation" if delegations else "processing"
        return Consent(
            f"c{which}-{name}", f"{name}|{org}|{kind}", "active", given, root, kind, giver=name,
            delegations=tuple(each.id for each in delegations),
        )  # fmt: skip

    def _delegation(self, name: str) -> Delegation:
        end = self.moment + 100 * DAY
        return Delegation(f"d-{name}", f"c4-{name}", f"kin-{name}", end, ("clinical",), ("FAMRQT",), delegator=name)

    def _grant(self, name: str, org: str) -> EmergencyGrant:
        start = self.moment - MINUTE
        who = staff_id("emergency_clinician", org, 0)
        return EmergencyGrant(f"s-{name}", who, start, start + 4 * HOUR, "unconscious", 40, mfa=True)

    def _record(self, name: str, which: int, chance: Random) -> RecordStatus:
        labels = (chance.choice(_LABELS),) if chance.random() < 0.15 else ()
        return RecordStatus(f"r{which}-{name}", CLASSES[(int(name[1:]) + which) % len(CLASSES)], labels, type="Record")
