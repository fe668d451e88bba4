"""
Changing the facts of several subjects and patients together: what is asked of the tables.

As in ``sql_facts``, each takes a Connection inside a transaction.  Rows are locked in one order everywhere: an
organisation, then subjects by id, then patients by id; the head of the feed comes last.
"""

import msgspec
from sqlalchemy import Connection, Table, select
from sqlalchemy.dialects import postgresql, sqlite

from ruqsat.core.fact_changes import FactChange, Found, Wanted
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.stores.sql_facts import Touched, read_patient_to_change, read_subject_to_change, write_facts
from ruqsat.stores.sql_schema import patient_facts, subject_facts

_encode = msgspec.json.Encoder().encode


def rewrite_facts(connection: Connection, wanted: Wanted, change: FactChange) -> list[Touched]:
    """
    Write what *change* makes of those wanted; return what was touched, nothing if nothing is different.

    Raises:
        RequestError: *change* refuses it.
        StoreUnavailableError: what is stored cannot be read as facts.
    """
    created = False
    subjects: dict[str, SubjectFacts] = {}
    for id_ in wanted.subjects:
        if id_ == wanted.create:
            created = _begin(connection, subject_facts, id_, SubjectFacts(id_, active=False))
        _hold(connection, id_, subjects)
    # Only now, with the organisation held: whoever was hired before us is seen, whoever comes after us waits.
    for id_ in _staff(connection, wanted.staff_of):
        _hold(connection, id_, subjects)
    patients: dict[str, PatientFacts] = {}
    for id_ in sorted(set(wanted.patients)):
        if id_ == wanted.create:
            created = _begin(connection, patient_facts, id_, PatientFacts(id_))
        patient = read_patient_to_change(connection, id_)
        if patient is not None:
            patients[id_] = patient
    new_subjects, new_patients = change(Found(subjects, patients, created))
    if created and wanted.create not in {*(one.id for one in new_subjects), *(one.id for one in new_patients)}:
        raise ValueError("a change must write whom it creates")
    return write_facts(connection, new_subjects, new_patients)


def _hold(connection: Connection, id_: str, found: dict[str, SubjectFacts]) -> None:
    subject = read_subject_to_change(connection, id_)
    if subject is not None:
        found[id_] = subject


def _begin(connection: Connection, table: Table, id_: str, facts: SubjectFacts | PatientFacts) -> bool:
    """Put an empty entry down where there is none, so that two who create the same one wait for each other."""
    fresh = postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
    row = {"id": id_, "version": 1, "body": _encode(facts)}
    begun = fresh.on_conflict_do_nothing(index_elements=[table.c.id]).returning(table.c.id)
    return connection.execute(begun, row).scalar_one_or_none() is not None


def _staff(connection: Connection, org: str | None) -> list[str]:
    """Return who may be of an organisation; the bodies hold no index, and an organisation changes seldom."""
    if org is None:
        return []
    sign = b'"org":' + _encode(org)
    rows = connection.execute(select(subject_facts.c.id, subject_facts.c.body))
    return sorted(id_ for id_, body in rows if id_ != org and sign in body)
