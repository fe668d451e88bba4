"""The rules of any number of hospitals, in the shape of SAPL's hospital benchmark, beside those of the shipped pack."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bench.world import ROOT

from ruqsat.stores.policy_folder import load_texts

_READS, _WRITES = "read search", "create update"
_CARE, _SIGNED = "notify_subject", "notify_subject provenance require_eds"
_LOOKING = {
    "physician": "demographics encounters conditions labs imaging medications documents",
    "nurse": "demographics vitals labs medications careplan",
    "emergency_clinician": "allergies medications labs",
    "lab_diagnostic": "labs imaging",
    "pharmacist": "medications allergies",
}
_WRITING = {
    "physician": "conditions medications documents",
    "nurse": "vitals careplan",
    "lab_diagnostic": "labs imaging",
}
_OTHERS = (
    ("trainee", "labs conditions vitals", "TRAIN TREAT", "notify_subject supervise", "R3 R22 H273.3"),
    ("registrar", "consent", "PATADMIN", _CARE, "R3 R5 H61.1.1"),
    ("quality_expert", "labs procedures", "HQUALIMP", _CARE, "R3 R5 H61.1.3"),
)
_EMERGENCY_CLASSES = ("allergies", "medications", "conditions", "labs", "demographics")
_OPEN_EMERGENCY = (
    "r.ctx.emergency && !is_sensitive(r.res) && !held_back(r.sub, r.act, r.res, r.ctx) && r.ctx.consents_known"
    " && !refused(r.sub, r.act, r.res, r.ctx) && !needs_broken_glass(r.res)"
)
_GRANTED = "granted(r.sub, r.act, r.res, r.ctx)"


class HospitalRule(NamedTuple):
    """A rule of one hospital (or of all, ``org`` None), before it is written in anybody's language."""

    org: str | None
    role: str
    actions: str
    data_class: str
    purposes: str
    duties: str
    law: str
    allows: bool = True


def permits_of(org: str) -> Iterator[HospitalRule]:
    """Yield the 32 permits of a hospital."""
    for table, actions, duties, law in (
        (_LOOKING, _READS, _CARE, "R3 R5 H61.1.1"),
        (_WRITING, _WRITES, _SIGNED, "R3 R29 H61.1.1"),
    ):
        for role, classes in table.items():
            for data_class in classes.split():
                yield HospitalRule(org, role, actions, data_class, "TREAT", duties, law)
    for role, classes, purposes, duties, law in _OTHERS:
        for data_class in classes.split():
            yield HospitalRule(org, role, _READS, data_class, purposes, duties, law)


def clinic_texts(hospitals: int) -> dict[str, bytes]:
    """Return the shipped pack with 33 rules for each hospital, and five for all of them, in layers of their own."""
    texts = {name: text for name, text in load_texts(ROOT).items() if not name.endswith(".test.toml")}
    orgs = [hospital_id(number) for number in range(hospitals)]
    permits = (each for org in orgs for each in permits_of(org))
    texts["policies/hospitals.csv"] = _layer(
        f"p, 1270, hospitals-{n:06d}, {r.role}, {r.actions}, {r.data_class}, {r.purposes}, {_of(r.org)}{_GRANTED}"
        f" && is_cared_for(r.ctx), allow, consent, {r.duties}, {r.law}"
        for n, r in enumerate(permits, 1)
    )
    texts["policies/hospitals-clearance.csv"] = _layer(
        f"p, 1240, hospitals-clearance-{n:04d}, *, *, *, *, {_of(org)}needs_clearance(r.sub, r.res) && {_GRANTED},"
        " deny, sensitivity.very_restricted, -, R5 R15"
        for n, org in enumerate(orgs, 1)
    )
    texts["policies/hospitals-emergency.csv"] = _layer(
        f"p, 915, hospitals-emergency-{n:02d}, emergency_staff, read search, {name}, ETREAT, {_OPEN_EMERGENCY},"
        " allow, emergency_default, notify_subject, R4 H61.2"
        for n, name in enumerate(_EMERGENCY_CLASSES, 1)
    )
    return texts


def hospital_id(number: int) -> str:
    """Return the id of a hospital."""
    return f"h{number:03d}"


def _of(org: str | None) -> str:
    return f"is_known(r.sub, 'org') && r.sub.org == '{org}' && "


def _layer(lines: Iterable[str]) -> bytes:
    return ("# Generated\n" + "\n".join(lines) + "\n").encode()
