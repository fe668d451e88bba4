"""
Random people, documents and requests: mostly plausible, sometimes strange.

One number seeds a whole situation, so that hundreds are made in a second; a
failing test prints its number.
"""

from datetime import date
from random import Random
from typing import Any

from hypothesis import strategies as st

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
    Representation,
    SubjectFacts,
)
from ruqsat.core.instant import HOUR, Now, at, parse_instant
from ruqsat.core.request import Action, EvaluationRequest, RequestContext, Resource, ResourceProperties, Subject

NOW = parse_instant("2026-11-24T10:00:00+05:00")
PURPOSES = ("TREAT", "COC", "ETREAT", "ERTREAT", "BTG", "PATRQT", "PWATRNY", "FAMRQT", "HSYSADMIN", "TRAIN", "HOPERAT")
LABELS = ("HIV", "PSY", "PSYTHPN", "SUD", "ETHUD", "INFDIS", "VIP")
CLASSES = ("labs", "documents", "demographics", "consent", "journal", "financial", "directory")
ACTIONS = (*("read",) * 9, "search", "search", "create", "create", "update", "export", "consent_manage", "journal_read")
PLAUSIBLE = {
    "physician": ("TREAT", "TREAT", "ETREAT", "BTG"),
    "nurse": ("TREAT", "ETREAT", "BTG"),
    "emergency_clinician": ("ERTREAT", "TREAT", "BTG"),
    "pharmacist": ("TREAT",),
    "sysadmin": ("HSYSADMIN",),
    "patient": ("PATRQT",),
    "legal_representative": ("PWATRNY",),
    "delegate": ("FAMRQT",),
}
PAST, FUTURE = (NOW - 5000 * HOUR, NOW - HOUR, NOW - 1), (NOW + 1, NOW + HOUR, NOW + 5000 * HOUR)


class Maker:
    """Makes situations from one source of chance."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def rarely(self, share: float = 0.1) -> bool:
        """True now and then."""
        return self.random.random() < share

    def one(self, *things: Any) -> Any:
        """One of the things."""
        return self.random.choice(things)

    def some(self, words: tuple[str, ...], most: int = 2) -> tuple[str, ...]:
        """A few of the words, perhaps none."""
        return tuple(self.random.sample(words, self.random.randint(0, most)))

    def since(self) -> int | None:
        """A beginning: mostly past."""
        return self.one(None, *PAST, NOW) if not self.rarely() else self.one(*FUTURE)

    def until(self) -> int | None:
        """An end: mostly to come."""
        return self.one(None, *FUTURE) if not self.rarely() else self.one(*PAST, NOW)

    def grantee(self) -> Grantee:
        """An entry of a list of recipients; now and then one that states nothing."""
        if self.rarely(0.05):
            return Grantee()
        return Grantee(
            org=self.one("h1", "h1", "h2", None),
            subject=self.one("ann", "bob") if self.rarely(0.2) else None,
            role=self.one(*PLAUSIBLE) if self.rarely(0.2) else "physician" if self.rarely(0.1) else None,
        )

    def provision(self, effect: str | None = None, depth: int = 2) -> Provision:
        """A provision with exceptions beneath it."""
        narrow = depth < 2
        return Provision(
            effect=effect or self.one("permit", "deny"),
            grantees=tuple(self.grantee() for _ in range(self.one(1, 1, 2, 2, 0) if not narrow else self.one(0, 1))),
            purposes=("TREAT",) if not self.rarely(0.3) else self.some(PURPOSES),
            actions=self.one((), ("read", "search"), ("read", "search", "create", "update")),
            categories=self.one(("clinical", "demographics"), ("labs",), ())
            if not self.rarely()
            else self.some(CLASSES),
            labels=self.some(LABELS) if self.rarely(0.4) else (),
            start=self.since(),
            end=self.until(),
            data_records=self.some(("r1", "r2"), 1) if self.rarely() else (),
            data_authors=self.some(("ann", "bob"), 1) if self.rarely() else (),
            data_from=date(2026, 1, 1) if self.rarely() else None,
            data_until=date(2026, 12, 31) if self.rarely() else None,
            exceptions=tuple(self.provision(None, depth - 1) for _ in range(self.one(0, 0, 0, 1, 2))) if depth else (),
        )

    def consent(self, name: str, effect: str | None = None) -> Consent:
        """A document of that name; half of them are what most people sign."""
        if effect is None and self.rarely(0.6):
            plain = Provision("permit", (Grantee(org="h1"),), ("TREAT",), (), ("clinical", "demographics"))
            return Consent(name, "t1", "active", self.one(*PAST), plain, delegations=("g1", "g2"))
        return Consent(
            id=name,
            thread=self.one("t1", f"own-{name}"),
            status="active" if not self.rarely(0.2) else self.one("revoked", "draft", "superseded", "quarantined"),
            granted_at=self.one(*PAST),
            root=self.provision(effect or self.one("permit", "permit", "permit", "deny")),
            kind="processing" if not self.rarely() else self.one("dissent", "treatment", "strange"),
            revoked_at=self.one(*PAST, NOW, *FUTURE) if self.rarely() else None,
            defect=self.one("incomplete", "signature") if self.rarely() else None,
            given_by=self.one(*("patient",) * 7, "legal_rep"),
            delegations=("g1", "g2"),
        )

    def delegation(self, name: str) -> Delegation:
        """A link of that name under one of the documents."""
        return Delegation(
            id=name, consent=self.one("c0", "c0", "c1"), delegate=self.one("ann", "bob"),
            end=self.until() or NOW + HOUR, categories=self.one(("clinical",), ("labs", "documents")),
            purposes=("FAMRQT",) if not self.rarely() else self.some(PURPOSES), labels=self.some(LABELS, 1),
            start=self.since(), parent=self.one(None, None, None, "g1", "g2"), may_redelegate=self.one(True, False),
            revoked_at=self.one(*PAST, *FUTURE) if self.rarely() else None,
        )  # fmt: skip

    def patient(self, who: str) -> PatientFacts:
        """Everything about one patient."""
        return PatientFacts(
            id="p1",
            birth_date=self.one(*(date(1880, 1, 1),) * 5, date(2015, 6, 1), date(2008, 11, 24), None),
            deceased_at=self.one(*PAST, *FUTURE) if self.rarely(0.05) else None,
            incapacitated=self.rarely(),
            egov=self.one(True, False),
            consents=tuple(self.consent(f"c{n}") for n in range(self.one(0, 1, 1, 1, 2, 3))),
            delegations=self.one((), (self.delegation("g1"),), (self.delegation("g1"), self.delegation("g2"))),
            representations=(
                Representation("q1", self.one(who, "bob"), self.one("parent", "guardian", "poa"), not self.rarely(),
                               self.since(), self.until(), self.one(*PAST, *FUTURE) if self.rarely() else None),
            ),
            grants=(
                EmergencyGrant("s1", self.one(who, who, "bob"), self.one(NOW - HOUR, NOW - 5 * HOUR, NOW),
                               self.one(NOW, NOW + 1, NOW + HOUR, NOW + 9 * HOUR),
                               self.one("unconscious", "unconscious", "curiosity"), self.one(40, 40, 3),
                               not self.rarely(), NOW - 1 if self.rarely() else None),
            ),
            episodes=(
                Episode("e1", self.one("h1", "h1", "h2"), self.one("emergency", "urgent", "planned"),
                        self.one(NOW - HOUR, NOW, NOW + 1), self.until()),
            ),
            relationships=(Relationship("encounter", None, self.one("h1", "h1", "h2")),) if not self.rarely(0.2) else (),
            records=(RecordStatus("r1", self.one("labs", "documents"), self.one(None, (), ("HIV",)),
                                  blocked=self.rarely()),) if self.rarely(0.3) else (),
        )  # fmt: skip

    def situation(self) -> tuple[EvaluationRequest, Facts, Now]:
        """A request with its facts and moment."""
        role = (
            self.one(*PLAUSIBLE)
            if not self.rarely(0.5)
            else self.one("physician", "physician", "emergency_clinician", "delegate")
        )
        who = self.one("ann", "ann", "bob")
        purposes = (self.one(*PLAUSIBLE[role]),) if not self.rarely(0.08) else self.some(PURPOSES)
        properties = ResourceProperties(
            patient="p1", data_class=self.one(*CLASSES[:2]) if not self.rarely(0.15) else self.one(*CLASSES),
            labels=() if not self.rarely(0.4) else self.one(None, self.some(LABELS)), blocked=self.rarely(0.03),
            author=self.one(None, "ann", "bob"), created=self.one(None, "2024-01-01", "2026-05-05"),
            self_consented=self.rarely(),
        )  # fmt: skip
        request = EvaluationRequest(
            Subject("user", who),
            Action(self.one(*ACTIONS)),
            Resource("Record", self.one("r1", "r2"), properties),
            RequestContext(
                purpose=purposes,
                btg_session="s1" if "BTG" in purposes or self.rarely() else None,
                destination_country=self.one("KZ", "XX") if self.rarely(0.05) else None,
                relink=self.rarely(0.02),
            ),
        )
        subject = SubjectFacts(
            id=who, active=not self.rarely(0.05), roles=(role,) if not self.rarely() else (role, self.one(*PLAUSIBLE)),
            org=self.one("h1", "h1", "h1", "h2", None), patient_id="p1" if role == "patient" and not self.rarely() else None,
            btg_suspended=self.rarely(0.05), btg_today=self.one(0, 0, 10, 11),
            organisation=Organisation(
                self.one("provider_pharma", "court", None) if self.rarely(0.05) else "provider_medical",
                not self.rarely(0.05),
            ) if not self.rarely(0.05) else None,
        )  # fmt: skip
        facts = Facts(subject, self.patient(who), Position("test", 0), not self.rarely(0.1))
        return request, facts, at(NOW)


worlds = st.integers(0, 2**48).map(lambda seed: Maker(seed).situation())
refusals = st.integers(0, 2**48).map(lambda seed: Maker(seed).provision("deny"))
consents = st.integers(0, 2**48).map(lambda seed: Maker(seed).consent("c9", "permit"))
