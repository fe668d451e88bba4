"""Whose a signature of a record must be, how young, and of which record."""

import json
from typing import Any

import pytest

from ruqsat.core.instant import SECOND
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.record_signature import DUTY, WRITES, failing_of, names_target
from ruqsat.core.routes import Mapped
from ruqsat.core.signature_finding import CLOCK_TOLERANCE, Finding

NOW = 1_800_000_000 * SECOND
GOOD = Finding(iin="880808100203", serial="7", signed_at=NOW, algorithm="RSA-SHA256", digest="ab")
CHANGE = Mapped("change-record", "update", "Record", "o1", "labs", "p1", None)
ADD = Mapped("add-record", "create", "Record", "*", "labs", "p1", None)
WHOLE = {"patient": "p1", "class": "labs", "id": "o1"}


def test_a_good_signature_is_the_persons_own_and_young() -> None:
    """By the number of the token, and as old at most as clocks may lie apart."""
    old = Finding(iin=GOOD.iin, signed_at=NOW - CLOCK_TOLERANCE - 1)
    edge = Finding(iin=GOOD.iin, signed_at=NOW - CLOCK_TOLERANCE)

    assert failing_of(GOOD, "880808100203", NOW) is None
    assert failing_of(edge, "880808100203", NOW) is None
    assert failing_of(old, "880808100203", NOW) == "too_old"
    assert failing_of(Finding(iin=GOOD.iin), "880808100203", NOW) == "too_old"


def test_another_signer_and_a_negative_finding_fail() -> None:
    """A certificate without a number is nobody's; what the verifier found stands."""
    assert failing_of(GOOD, "880808100309", NOW) == "wrong_signer"
    assert failing_of(Finding(iin=None, signed_at=NOW), "880808100203", NOW) == "wrong_signer"
    assert failing_of(Finding("revoked", iin=GOOD.iin, signed_at=NOW), "880808100203", NOW) == "revoked"


def test_a_record_names_its_patient_its_class_and_itself() -> None:
    """An id only where the address names one."""
    assert names_target(json.dumps(WHOLE | {"value": 1}).encode(), CHANGE)
    assert names_target(json.dumps(WHOLE | {"id": "of its own"}).encode(), ADD)


@pytest.mark.parametrize("changes", [
    {"patient": "p2"}, {"patient": None}, {"patient": ["p1"]}, {"patient": {"id": "p1"}}, {"class": "vitals"},
    {"class": None}, {"id": "o2"}, {"id": None}, {"id": "O1"}, {"id": "o1 "},
])  # fmt: skip
def test_a_record_of_something_else_does_not(changes: dict[str, Any]) -> None:
    """Another patient, class or record, or none; and each of the three left out."""
    assert not names_target(json.dumps(WHOLE | changes).encode(), CHANGE)
    left = {name: value for name, value in WHOLE.items() if name not in changes}
    assert not names_target(json.dumps(left).encode(), CHANGE)


@pytest.mark.parametrize("body", [
    b"", b"[]", b"7", b'"p1"', b"{", b"\xff", b'{"patient":"p2","patient":"p1","class":"labs","id":"o1"}',
    b'{"patient":"p1","Patient":"p2","class":"labs","id":"o1"}', b'[{"patient":"p1","class":"labs","id":"o1"}]',
    b'{"patient":"p1","class":"labs","id":"o1"} {}', b'{"patient":"p1","class":"labs","id":"o1"',
    b'\xef\xbb\xbf{"patient":"p1","class":"labs","id":"o1"}',
])  # fmt: skip
def test_what_can_be_read_in_two_ways_names_nothing(body: bytes) -> None:
    """No object of JSON, a member twice in whatever case, something after it."""
    assert not names_target(body, CHANGE)


def test_what_names_nobody_in_the_address_cannot_be_signed_for_anybody() -> None:
    """A body that says null where the address says nothing does not agree with it."""
    nobody = Mapped("x", "update", "Record", "o1", "labs", None, None)

    assert not names_target(json.dumps(WHOLE | {"patient": None}).encode(), nobody)
    assert not names_target(json.dumps(WHOLE).encode(), nobody)


def test_every_permit_to_enter_a_medical_record_demands_the_signature(policy_set: PolicySet) -> None:
    """Order §29: but for what patients report of themselves, which no medical worker enters."""
    words, kinds = policy_set.vocabulary, policy_set.hierarchies.classes
    clinical = {
        word for word in (*words.classes, *words.class_groups)
        if any({word, "clinical"} <= kinds.above(each) for each in words.classes)
    }  # fmt: skip
    entering = [
        rule for rule in policy_set.rules
        if rule.allows and WRITES & set(rule.act.split()) and clinical & set(rule.data_class.split())
    ]  # fmt: skip
    bare = {(rule.id, rule.data_class) for rule in entering if DUTY not in rule.blocking}

    assert bare == {("self-access-04", "patient_reported"), ("representation-04", "patient_reported")}
    assert len(entering) > len(bare) + 3
