"""
Worlds to measure in: hospitals with their rules, people with their documents, and questions whose answer is known.

A world is settled by its seed, its sizes and its moment; nothing in it exists.  Two kinds:

- ``ClinicWorld`` (here): the shipped pack with the rules of 1 to 300 hospitals beside its own (33 n + 5, in the shape
  of SAPL's hospital benchmark), 10^3 to 10^6 patients with consents, refusals, delegations, emergency episodes and
  break-glass sessions.  The hospitals' rules restate in small what the pack says at large, so that the reference
  decider, which knows the pack alone, must come to the same decisions.
- ``SharedWorld`` (``bench.shared_world``): the same shape without patients, which other engines can express too.

Both yield the texts of a pack, facts (one by one, or as a file to import), and a stream of questions; the right answer
is ``core.evaluate``'s, asked in the bench's own process.

    world = ClinicWorld(seed=1, hospitals=3, patients=1_000)
    world.write_pack(Path("pack")); world.write_facts(Path("facts.jsonl"))
    for question in world.questions(10): ... world.right(question)
"""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from random import Random

import msgspec
from bench.clinic_people import CLASSES, STAFF, ClinicPeople, patient_id, staff_id
from bench.clinic_rules import clinic_texts
from bench.world import DELEGATIONS, EMERGENCIES, MOMENT, Question, Withdrawal, World, Written

from ruqsat.core.facts import Facts
from ruqsat.core.instant import Instant

__all__ = ["MOMENT", "ClinicWorld", "Question", "Withdrawal", "World", "Written", "withdrawn"]

PARETO = 1.16
"""With a scale of a fifteenth of the people: a fifth of them get four fifths of the questions."""
_SPREAD = 15_485_863
"""A prime: neighbours in popularity are no neighbours by number."""


class ClinicWorld(ClinicPeople):
    """Hospitals, their staff and patients under the shipped pack; its arguments are those of ``ClinicPeople``."""

    @cached_property
    def texts(self) -> Mapping[str, bytes]:  # type: ignore[override]
        """The pack: its files by path."""
        return clinic_texts(self.hospitals)

    def popular(self, chance: Random, modulus: int = 1, rest: int = 0) -> int:
        """Return the number of a patient, the popular ones more often; with *modulus*, one of that rest."""
        scale = self.patients / 15
        rank = self.patients
        while rank >= self.patients:
            rank = int(scale * (chance.paretovariate(PARETO) - 1))
        number = (rank * _SPREAD + self.seed) % self.patients
        number = number - number % modulus + rest
        return number if number < self.patients else rest

    def questions(self, count: int, stream: str = "") -> Iterator[Question]:
        """Yield questions: 5 % emergencies, 1 % delegates, the others of every day; the same for the same stream."""
        chance = Random(f"{self.seed}/{stream}")
        for _ in range(count):
            yield self.question(chance)

    def question(self, chance: Random) -> Question:
        """Return one question of the mix."""
        drawn = chance.random()
        if drawn < EMERGENCIES:
            return self.emergency(chance)
        if drawn < EMERGENCIES + DELEGATIONS:
            return self.delegate(chance)
        return self.everyday(chance)

    def emergency(self, chance: Random) -> Question:
        """Return a question of an open emergency; every fifth by a broken glass."""
        glass = chance.random() < 0.2 and self.patients > 50
        number = self.popular(chance, *((50, 1) if glass else (5, 1)))
        name, own = patient_id(number), self.own(number)
        if glass:
            who = staff_id("emergency_clinician", own, chance.randrange(2))
            return self.ask("break_glass", who, "read", name, chance, "BTG", btg_session=f"s-{name}")
        org = own if chance.random() < 0.9 else chance.choice(self.orgs)
        return self.ask(
            "emergency", staff_id("emergency_clinician", org, chance.randrange(2)), "read", name, chance, "ETREAT"
        )

    def delegate(self, chance: Random) -> Question:
        """Return a question of somebody whom a patient let in."""
        name = patient_id(self.popular(chance, 10, 2))
        return self.ask("delegation", f"kin-{name}", "read", name, chance, chance.choice(("FAMRQT", "FAMRQT", "TREAT")))

    def everyday(self, chance: Random) -> Question:
        """Return a question of an ordinary day: own staff, writing, the cabinet, learners, and people of elsewhere."""
        number, drawn = self.popular(chance), chance.random()
        name, own = patient_id(number), self.own(number)
        if drawn < 0.04:
            name = patient_id(self.popular(chance, 10, 0))
            return self.ask("own", f"own-{name}", "read", name, chance, "PATRQT")
        if drawn < 0.08:
            role, purpose = chance.choice(
                (("trainee", "TRAIN"), ("quality_expert", "HQUALIMP"), ("registrar", "PATADMIN"))
            )
            return self.ask("office", staff_id(role, own, 0), "read", name, chance, purpose)
        if drawn < 0.20:
            return self.ask(
                "foreign", staff_id("physician", chance.choice(self.orgs), 1), "read", name, chance, "TREAT"
            )
        role = chance.choices(("physician", "nurse", "lab_diagnostic", "pharmacist"), (6, 3, 2, 1))[0]
        who = staff_id(role, own, chance.randrange(STAFF[role]))
        if drawn < 0.35:
            return self.ask("write", who, chance.choice(("create", "update")), name, chance, "TREAT")
        return self.ask("read", who, chance.choice(("read", "read", "read", "search")), name, chance, "TREAT")

    def ask(
        self, kind: str, who: str, action: str, patient: str, chance: Random, purpose: str, **context: str
    ) -> Question:
        """Ask for one of the patient's own records, or for another of some class; of which, chance decides."""
        which, known = chance.randrange(4), chance.random() < 0.6
        data_class = CLASSES[(int(patient[1:]) + which) % len(CLASSES)] if known else chance.choice(CLASSES)
        properties = {"patient": patient, "class": data_class}
        record = f"r{which}-{patient}" if known else f"x{chance.randrange(1000)}-{patient}"
        asked = {
            "subject": {"type": "user", "id": who},
            "action": {"name": action},
            "resource": {
                "type": "Record",
                "id": record,
                "properties": properties if known else properties | {"labels": []},
            },
            "context": {"purpose": purpose} | context,
        }
        return Question(json.dumps(asked, separators=(",", ":")).encode(), kind, who, patient)

    def withdrawals(self, each_second: float, seconds: float) -> Iterator[Withdrawal]:
        """Yield withdrawals of the consents of popular patients during a run, each of another patient."""
        chance, done, after = Random(f"{self.seed}/withdrawals"), set[int](), 0.0
        while len(done) < self.patients // 20:
            after += chance.expovariate(each_second)
            number = self.popular(chance, 10, 0)  # patients who have a cabinet, and withdraw there
            if after > seconds:
                return
            if number not in done and self._patient(number).consents[0].status == "active":
                done.add(number)
                yield Withdrawal(after, patient_id(number), f"c1-{patient_id(number)}")


def withdrawn(facts: Facts, consent: str, when: Instant) -> Facts:
    """Return the facts with one consent withdrawn, as the registry writes it."""
    assert facts.patient is not None
    consents = tuple(
        msgspec.structs.replace(each, status="revoked", revoked_at=when) if each.id == consent else each
        for each in facts.patient.consents
    )
    return msgspec.structs.replace(facts, patient=msgspec.structs.replace(facts.patient, consents=consents))
