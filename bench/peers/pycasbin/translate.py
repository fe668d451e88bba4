"""
The world for stock pycasbin: the tables as policy rows, the documents weighed by functions that the matcher calls.

It is how pycasbin is used where facts are many: rows of policy say which ground a role needs, and Python looks
the ground up.  Documents as rows of Casbin's own would cost a matcher's evaluation each.  ``FastEnforcer`` finds the
row by four of its words instead of walking through all of them, which is the fastest that pycasbin has.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.peers.common.rules import Cells, Rules
from bench.peers.common.world import Document, Link, Patient, Person, Question, World

import casbin

MODEL = Path(__file__).with_name("model.conf")
GROUNDS = ("own", "delegation", "emergency", "consent")


class Asked(NamedTuple):
    """A question with the facts that bear on it."""

    who: Person
    patient: Patient
    action: str
    data_class: str
    labels: frozenset[str]
    purpose: str
    now: int


class Enforcer:
    """Stock pycasbin over one world; the world's documents must be written out (``rules.reaching``)."""

    def __init__(self, world: World, rules: Rules) -> None:
        self._world, self._rules = world, rules
        self._records = {each.id: each for patient in world.patients.values() for each in patient.records}
        with TemporaryDirectory() as folder:
            file = Path(folder, "policy.csv")
            file.write_text("\n".join(_rows(rules)))
            self._enforcer = casbin.FastEnforcer(str(MODEL), str(file), cache_key_order=[0, 1, 2, 3])
        self._enforcer.add_function("holds", self._holds)
        # A denial is a warning to it, and writing the question out costs more than answering it.
        self._enforcer.logger.setLevel(logging.CRITICAL)

    def allows(self, who: str, action: str, patient: str, record: str, purpose: str, now: int) -> bool:
        """Answer one question; whoever or whatever is not known gets nothing."""
        person, whom, known = self._world.people.get(who), self._world.patients.get(patient), self._records.get(record)
        if person is None or whom is None or known is None:
            return False
        asked = Asked(person, whom, action, known.data_class, frozenset(known.labels), purpose, now)
        return bool(self._enforcer.enforce(person.role, action, known.data_class, purpose, asked))

    def answers(self, questions: list[Question]) -> list[bool]:
        """Answer all, at the world's own moment."""
        now = self._world.now
        return [self.allows(q.who, q.action, q.patient, q.record.id, q.purpose, now) for q in questions]

    def _holds(self, ground: str, asked: Asked) -> bool:
        if ground == "own":
            return asked.who.patient == asked.patient.id
        if _is_refused(asked):
            return False
        if ground == "delegation":
            return any(each.delegate == asked.who.id and _covers(each, asked) for each in asked.patient.links)
        is_emergency = any(
            each.org == asked.who.org and each.since <= asked.now < each.until for each in asked.patient.episodes
        )
        needs_glass = not asked.labels.isdisjoint(self._rules.glass)
        if ground == "emergency":
            return is_emergency and not needs_glass
        if is_emergency and needs_glass and asked.purpose == "ETREAT" and self._is_shut(asked):
            return False
        if not asked.labels.isdisjoint(self._rules.very_restricted) and asked.who.role not in self._rules.cleared:
            return False
        return asked.who.org in asked.patient.cared_for_at and any(
            not each.refuses and _names(each, asked) and _covers(each, asked) for each in asked.patient.documents
        )

    def _is_shut(self, asked: Asked) -> bool:
        return f"{asked.purpose}/{asked.action}/{asked.data_class}" in self._rules.shut[asked.who.role]


def _names(document: Document, asked: Asked) -> bool:
    return document.org in ("", asked.who.org) and document.role in ("", asked.who.role)


def _covers(permit: Document | Link, asked: Asked) -> bool:
    return (
        permit.since <= asked.now < permit.until and asked.purpose in permit.purposes
        and asked.action in permit.actions and asked.data_class in permit.classes
        and asked.labels.issubset(permit.labels)
    )  # fmt: skip


def _is_refused(asked: Asked) -> bool:
    return any(
        each.refuses and _names(each, asked) and each.since <= asked.now and (not each.until or asked.now < each.until)
        and (not each.purposes or asked.purpose in each.purposes)
        and (not each.actions or asked.action in each.actions)
        and (not each.classes or asked.data_class in each.classes)
        and (not each.labels or not asked.labels.isdisjoint(each.labels))
        for each in asked.patient.documents
    )  # fmt: skip


def _rows(rules: Rules) -> Iterator[str]:
    for ground in GROUNDS:
        table: Cells = getattr(rules, ground)
        for role, cells in table.items():
            for each in sorted(cells):
                purpose, action, data_class = each.split("/")
                if (ground == "own") == (role == "patient") and (ground == "delegation") == (role == "delegate"):
                    yield f"p, {role}, {action}, {data_class}, {purpose}, {ground}"
