"""Policies of any size: the shipped pack with the rules of many hospitals beside its own."""

import re
from pathlib import Path

from ruqsat.core.cases import read_world
from ruqsat.core.facts import Facts, Position
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.projection import project_world
from ruqsat.core.request import EvaluationRequest
from ruqsat.stores.policy_folder import load_texts
from ruqsat.web.wire import decode_evaluation

ROOT = Path(__file__).resolve().parents[2]
RULES_A_HOSPITAL = 33


def pack_of(rows: int, shape: str) -> dict[str, bytes]:
    """
    Return the texts of a pack with *rows* generated rules before its own consent rules.

    Args:
        rows: How many.
        shape: ``roles``: each hospital has roles of its own; ``organisations``: one role,
            and each rule's condition names the hospital.
    """
    texts = dict(load_texts(ROOT))
    hospitals = -(-rows // RULES_A_HOSPITAL)
    classes = _classes(texts)
    lines = [_rule(number, shape, classes) for number in range(rows)]
    texts["policies/consent.csv"] += ("\n" + "\n".join(lines) + "\n").encode()
    if shape == "roles":
        extra = "".join(f'"g{n}" = "staff of hospital {n}"\n' for n in range(hospitals))
        texts["policies/vocabulary.toml"] = _with_roles(texts["policies/vocabulary.toml"].decode(), extra).encode()
    return texts


def compiled(texts: dict[str, bytes]) -> PolicySet:
    """Return the pack, compiled; the shapes above have no errors."""
    policy_set, findings = load_pack(texts)
    assert policy_set is not None, findings[:3]
    return policy_set


def common_question(texts: dict[str, bytes], policy_set: PolicySet) -> tuple[EvaluationRequest, Facts]:
    """Return the common case: a doctor reads laboratory results of a patient who consented."""
    subjects, patients = project_world(
        read_world(texts, "policies/fixtures/world.toml"), policy_set.vocabulary.switches
    )
    body = (
        b'{"subject":{"type":"user","id":"dr_aida"},"action":{"name":"read"},"resource":{"type":"Record",'
        b'"id":"o1","properties":{"patient":"p-dana","class":"labs"}},"context":{"purpose":"TREAT"}}'
    )
    who = next(subject for subject in subjects if subject.id == "dr_aida")
    whose = next(patient for patient in patients if patient.id == "p-dana")
    return decode_evaluation(body), Facts(who, whose, Position("bench", 1))


def _rule(number: int, shape: str, classes: list[str]) -> str:
    hospital, which = divmod(number, RULES_A_HOSPITAL)
    role = f"g{hospital}" if shape == "roles" else "care_staff"
    org = f"hospital{hospital}" if hospital else "h1"  # the asking doctor's own is the first
    where = "" if shape == "roles" else f"is_known(r.sub, 'org') && r.sub.org == '{org}' && "
    data_class = classes[which % len(classes)]
    action = ("read", "search", "create", "update")[which % 4]
    return (
        f"p, 1300, consent-{number + 1000:06d}, {role}, {action}, {data_class}, TREAT, "
        f"{where}granted(r.sub, r.act, r.res, r.ctx) && is_cared_for(r.ctx), allow, consent, notify_subject, R3 R5"
    )


def _classes(texts: dict[str, bytes]) -> list[str]:
    text = texts["policies/vocabulary.toml"].decode()
    section = text.split("[classes]", 1)[1].split("\n[", 1)[0]
    return re.findall(r'^"?([\w.-]+)"?\s*=', section, re.MULTILINE)[:8]


def _with_roles(text: str, extra: str) -> str:
    return text.replace("[roles]\n", "[roles]\n" + extra, 1)
