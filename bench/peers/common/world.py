"""
A seeded town in a form that is nobody's: people, what patients signed, who takes care of whom, and questions.

Only what every peer can say without help is in it: consents and refusals (of an organisation or a role, for purposes,
actions, classes, labels and a time), a delegation, an emergency episode, a tie of care, the labels of a record.
Nobody here exists.  Every term begins and ends days away from the moment of the town, so that no answer
changes while something is measured.
"""

import random
from typing import NamedTuple

DAY = 86_400
STAFF = ("physician", "nurse", "emergency_clinician", "lab_diagnostic", "pharmacist")
FUND = "fund"
CLASSES = ("demographics", "labs", "medications", "conditions", "documents", "allergies", "imaging", "financial")
LABELS = ("HIV", "PSY", "PSYTHPN", "SUD", "VIP")
_MOSTLY_NONE: tuple[tuple[str, ...], ...] = (
    *((),) * 11, *(("PSYTHPN",), ("VIP",)) * 2, ("HIV",), ("PSY",), ("HIV", "SUD"),
)  # fmt: skip
_CARE = ("TREAT", "TREAT", "ETREAT")
_ASKS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(STAFF[:3], (_CARE, (*("read",) * 5, "search", "create"), CLASSES[:-1])),
    "lab_diagnostic": (("TREAT",), ("read", "read", "create", "update"), ("labs", "imaging", "demographics")),
    "pharmacist": (("TREAT", "HPAYMT"), ("read", "read", "update"), ("medications", "allergies", "demographics")),
    "insurer": (("HPAYMT",), ("read", "read", "search", "update"), ("financial", "demographics", "medications")),
    "patient": (("PATRQT",), ("read", "read", "export", "update"), CLASSES),
    "delegate": (("FAMRQT",), ("read", "read", "search", "export"), ("labs", "documents", "conditions")),
}
"""What people of a role ask for: purposes, actions and classes, the usual ones and some that are not theirs."""


class Person(NamedTuple):
    """Whoever asks: one role, an employer or none, and the own patient id of a patient."""

    id: str
    role: str
    org: str = ""
    patient: str = ""


class Document(NamedTuple):
    """A consent, or a refusal; of a refusal an empty part means *any*, and ``until`` 0 is for ever."""

    id: str
    refuses: bool
    org: str
    role: str
    purposes: tuple[str, ...]
    actions: tuple[str, ...]
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    since: int
    until: int


class Link(NamedTuple):
    """What a patient lets one third person do."""

    id: str
    delegate: str
    purposes: tuple[str, ...]
    actions: tuple[str, ...]
    classes: tuple[str, ...]
    labels: tuple[str, ...]
    since: int
    until: int


class Episode(NamedTuple):
    """Emergency care at one organisation."""

    org: str
    since: int
    until: int


class Record(NamedTuple):
    """A record: its class and labels."""

    id: str
    data_class: str
    labels: tuple[str, ...]


class Patient(NamedTuple):
    """A patient, and everything that bears on access to the records."""

    id: str
    cared_for_at: tuple[str, ...]
    records: tuple[Record, ...]
    documents: tuple[Document, ...]
    links: tuple[Link, ...]
    episodes: tuple[Episode, ...]


class World(NamedTuple):
    """Everybody, at one moment (seconds since 1970)."""

    now: int
    people: dict[str, Person]
    patients: dict[str, Patient]


class Question(NamedTuple):
    """May this person do this to this record, for this purpose?"""

    who: str
    action: str
    patient: str
    record: Record
    purpose: str


def make_world(seed: int, now: int, patients: int = 400, hospitals: int = 12) -> World:
    """Return a town of so many patients; the same seed gives the same town around another moment."""
    rng = random.Random(seed)
    orgs = [f"h{number}" for number in range(1, hospitals + 1)]
    people = [Person(f"{role}-{org}-{n}", role, org) for org in orgs for role in STAFF for n in (1, 2)]
    people += [Person(f"insurer-{n}", "insurer", FUND) for n in range(4)]
    people += [Person(f"relative-{n}", "delegate") for n in range(max(4, patients // 8))]
    known = [_patient(f"p{number}", now, orgs, rng, people) for number in range(patients)]
    people += [Person(f"self-{each.id}", "patient", patient=each.id) for each in known]
    return World(now, {each.id: each for each in people}, {each.id: each for each in known})


def ask(world: World, seed: int, count: int) -> list[Question]:
    """Return so many questions; most are asked by people whom the patient has met."""
    rng = random.Random(seed)
    by_org: dict[str, list[Person]] = {}
    for person in world.people.values():
        by_org.setdefault(person.org, []).append(person)
    return [_question(world, by_org, rng) for _ in range(count)]


def _patient(name: str, now: int, orgs: list[str], rng: random.Random, people: list[Person]) -> Patient:
    home, other = rng.sample(orgs, 2)
    delegates = [person.id for person in people if person.role == "delegate"]
    cared = (home, *((other,) if rng.random() < 0.4 else ()), *((FUND,) if rng.random() < 0.7 else ()))
    records = tuple(Record(f"{name}-{each}", each, rng.choice(_MOSTLY_NONE)) for each in CLASSES)
    documents = [_consent(f"{name}-c{n}", org, now, rng) for n, org in enumerate((home, other, FUND))]
    documents += [_refusal(f"{name}-r{n}", home, now, rng) for n in range(rng.choice((0, 0, 1, 1, 2)))]
    links = tuple(_link(f"{name}-d{n}", rng.choice(delegates), now, rng) for n in range(rng.choice((0, 1))))
    episodes = (Episode(rng.choice((home, home, other)), *_term(now, rng)),) if rng.random() < 0.4 else ()
    return Patient(name, cared, records, tuple(documents), links, episodes)


def _term(now: int, rng: random.Random) -> tuple[int, int]:
    """Mostly in force; sometimes over, sometimes not yet begun."""
    begun, left = rng.randint(30, 400), rng.randint(30, 400)
    if (kind := rng.random()) < 0.88:
        return now - begun * DAY, now + left * DAY
    if kind < 0.94:
        return now - (begun + left) * DAY, now - left * DAY
    return now + begun * DAY, now + (begun + left) * DAY


def _consent(name: str, org: str, now: int, rng: random.Random) -> Document:
    if org == FUND:
        purposes, role, classes = ("HPAYMT",), "", ("demographics", "financial", "medications")
    else:
        purposes = rng.choice((("TREAT",), ("TREAT",), ("TREAT", "HPAYMT"), ("TREAT", "HPAYMT"), ("ETREAT",)))
        role = rng.choice(("", "", "", "", "physician", "nurse"))
        classes = rng.choice((*(("demographics", "clinical"),) * 3, ("clinical",), ("labs", "medications")))
    return Document(
        name, False, org, role, purposes, rng.choice((("read", "search"), ("read", "search", "create", "update"))),
        classes, rng.choice(((), ("HIV", "PSY"), ("HIV", "PSY", "SUD", "VIP"))), *_term(now, rng),
    )  # fmt: skip


def _refusal(name: str, home: str, now: int, rng: random.Random) -> Document:
    since, until = _term(now, rng)
    labels: tuple[str, ...] = rng.choice(((), (), (), ("HIV",), ("PSY",)))
    some = ((), ("documents", "conditions"), ("labs", "imaging"), ("medications", "financial"))
    classes: tuple[str, ...] = () if labels else rng.choice(some)
    return Document(
        name, True, rng.choice((home, "", "")), rng.choice(("", "", "", "nurse")),
        rng.choice(((), (), ("TREAT",), ("HPAYMT",))), rng.choice(((), (), (), ("create", "update"))), classes, labels,
        since, rng.choice((0, until)),
    )  # fmt: skip


def _link(name: str, delegate: str, now: int, rng: random.Random) -> Link:
    return Link(
        name, delegate, ("FAMRQT",), rng.choice((("read", "search"), ("read", "search", "export"))),
        rng.choice((("clinical",), ("labs", "documents"))), rng.choice(((), ("HIV", "PSY"))), *_term(now, rng),
    )  # fmt: skip


def _question(world: World, by_org: dict[str, list[Person]], rng: random.Random) -> Question:
    patient = rng.choice(list(world.patients.values()))
    draw = rng.random()
    if draw < 0.78:
        met = (patient.cared_for_at[0], *patient.cared_for_at, *(each.org for each in patient.episodes))
        who = rng.choice(by_org[rng.choice(met)])
    elif draw < 0.84:
        who = world.people[rng.choice([each.delegate for each in patient.links] or ["relative-0"])]
    elif draw < 0.92:
        who = world.people[f"self-{patient.id}"]
    else:
        who = rng.choice(list(world.people.values()))
    purposes, actions, classes = _ASKS[who.role]
    wanted = rng.choice(classes) if rng.random() < 0.9 else rng.choice(CLASSES)
    record = next(each for each in patient.records if each.data_class == wanted)
    return Question(who.id, rng.choice(actions), patient.id, record, rng.choice(purposes))
