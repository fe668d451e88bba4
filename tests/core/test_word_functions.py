"""What the functions of matchers say, cell by cell: narrow on a permit, wide on a denial."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from ruqsat.core.facts import Grantee
from ruqsat.core.functions import in_force, naming, read_grantees, write_grantees
from ruqsat.core.instant import Now
from ruqsat.core.policy_set import PolicySet

UNSAID: dict[str, Any] = {
    "id": "o1", "author": None, "author_org": None, "encounter": None, "created": None, "labels": (), "conf": None,
}  # fmt: skip


def record(**stated: Any) -> Any:
    """Return a record of which only this is known."""
    return SimpleNamespace(**(UNSAID | stated))


DATA = [  # what is stated of the record; records, authors, encounters, from, until; holds on a permit, on a denial
    ({}, ("", "", "", None, None), True, True),
    ({}, ("o1 o2", "", "", None, None), True, True),
    ({}, ("o2", "", "", None, None), False, False),
    ({"author": "s1"}, ("", "s1", "", None, None), True, True),
    ({"author_org": "s1"}, ("", "s1", "", None, None), True, True),
    ({"author": "s2"}, ("", "s1", "", None, None), False, False),
    ({}, ("", "s1", "", None, None), False, True),
    ({"encounter": "e1"}, ("", "", "e1", None, None), True, True),
    ({"encounter": "e2"}, ("", "", "e1", None, None), False, False),
    ({}, ("", "", "e1", None, None), False, True),
    ({"author": "s2", "encounter": "e1"}, ("", "s1", "e1", None, None), False, True),
    ({"author": "s2", "encounter": "e2"}, ("", "s1", "e1", None, None), False, False),
    ({"author": "s1", "encounter": "e1"}, ("", "s1", "e1", None, None), True, True),
    ({"author": "s1"}, ("o1", "s2", "", None, None), False, True),
    ({"author": "s1"}, ("o2", "s1", "", None, None), False, True),
    ({"author": "s1"}, ("o2", "s2", "", None, None), False, False),
    ({}, ("o2", "s1", "", None, None), False, True),
    ({"author": "s1", "created": "2025"}, ("", "s1", "", "2026-01-01", None), False, False),
    ({}, ("", "", "", "2026-01-01", "-"), False, True),
    ({"created": "2026-01-01"}, ("", "", "", "2026-01-01", None), True, True),
    ({"created": "2026-01-01"}, ("", "", "", None, "2026-01-01"), True, True),
    ({"created": "2025-12-31"}, ("", "", "", "2026-01-01", ""), False, False),
    ({"created": "2026-01-02"}, ("", "", "", "-", "2026-01-01"), False, False),
    ({"created": "2026-01"}, ("", "", "", "2026-01-01", "2026-01-31"), True, True),
    ({"created": "2026"}, ("", "", "", "2026-01-15", "2026-02-01"), False, True),
    ({"created": "2025"}, ("", "", "", "2026-01-15", "2026-02-01"), False, False),
    ({"created": "2027"}, ("", "", "", "2026-01-15", "2026-02-01"), False, False),
    ({"created": "2026-01"}, ("", "", "", "2026-01-31", None), False, True),
    ({"created": "2021-05-05T18:30:00Z"}, ("", "", "", "2021-05-06", None), False, True),
    ({"created": "2021-05-05T17:30:00Z"}, ("", "", "", "2021-05-06", None), False, False),
    ({"created": "2024-02-29T18:59:59Z"}, ("", "", "", "2024-03-01", None), False, True),
    ({"created": "2024-02-29T19:00:00Z"}, ("", "", "", "2024-03-01", "2024-03-01"), True, True),
    ({"created": "2026-05-05T18:30:00Z"}, ("", "", "", "2026-05-06", None), False, False),
    ({"created": "2026-01"}, ("", "", "", None, "2026-01-01"), False, True),
]


@pytest.mark.parametrize("row", DATA)
def test_the_data_that_a_provision_names(policy_set: PolicySet, row: Any) -> None:
    """Of records, authors and visits a permit needs all that are named, a denial one; what nobody knows meets a denial."""
    stated, cells, permit, denial = row
    within = policy_set.functions["within_data"].call

    assert (within(record(**stated), *cells, "permit"), within(record(**stated), *cells, "deny")) == (permit, denial)


CONFIDENTIALITY = [
    ({"conf": "R"}, None, True, True),
    ({"conf": "R"}, "-", True, True),
    ({"labels": None}, "", True, True),
    ({"labels": None}, "N", False, True),
    ({"labels": None, "conf": "N"}, "N", False, True),
    ({"labels": None, "conf": "L"}, "N", False, True),
    ({}, "N", True, True),
    ({"conf": "R"}, "N", False, True),
    ({"labels": ("HIV",)}, "N", False, True),
    ({"labels": ("nobody knows",)}, "R", False, True),
]


@pytest.mark.parametrize("row", CONFIDENTIALITY)
def test_confidentiality_is_a_ceiling_on_a_permit_and_a_floor_on_a_denial(policy_set: PolicySet, row: Any) -> None:
    """The level itself meets both; what nobody knows meets a denial alone; a strange label counts as the highest."""
    stated, cell, permit, denial = row
    within = policy_set.functions["within_confidentiality"].call

    assert (within(record(**stated), cell, "permit"), within(record(**stated), cell, "deny")) == (permit, denial)


LABELS = [  # what is stated; is it sensitive, does it need a broken glass
    ({}, False, False), ({"labels": None}, True, False), ({"conf": "R"}, True, False), ({"conf": "V"}, True, True),
    ({"labels": ("HIV",)}, True, False), ({"labels": ("PSYTHPN",)}, True, True), ({"labels": ("VIP",)}, True, True),
    ({"labels": ("INFDIS",)}, False, False), ({"labels": ("nobody knows",)}, True, True),
    ({"labels": ("INFDIS",), "conf": "V"}, True, True), ({"labels": None, "conf": "V"}, True, True),
]  # fmt: skip


@pytest.mark.parametrize("row", LABELS)
def test_what_labels_and_confidentiality_ask_for(policy_set: PolicySet, row: Any) -> None:
    """One label suffices, and so does the level without a label."""
    stated, sensitive, glass = row
    call = {name: policy_set.functions[name].call for name in ("is_sensitive", "needs_broken_glass")}

    assert (call["is_sensitive"](record(**stated)), call["needs_broken_glass"](record(**stated))) == (sensitive, glass)


WORDS = [  # a function, its arguments without the effect; holds on a permit, on a denial
    ("about", (("TREAT",), "TREAT"), True, True),
    ("about", (("ETREAT",), "TREAT"), True, True),
    ("about", (("TREAT", "TRAIN"), "TREAT"), False, True),
    ("about", (("TRAIN",), "TREAT"), False, False),
    ("about", (("TREAT",), "-"), False, True),
    ("about", ((), "TREAT"), False, False),
    ("doing", ("read", "-"), True, True),
    ("doing", ("update", "-"), False, True),
    ("doing", ("update", "read"), False, False),
    ("concerning", ("labs", "clinical"), True, True),
    ("concerning", ("labs", "financial"), False, False),
    ("concerning", ("labs", "-"), False, True),
    ("concerning", (None, "labs"), False, True),
    ("labelled", ((), "-"), True, True),
    ("labelled", (("HIV",), "HIV"), True, True),
    ("labelled", (("HIV",), "-"), False, True),
    ("labelled", (("HIV",), "PSY"), False, False),
    ("labelled", (("HIV", "INFDIS"), "HIV"), True, True),
    ("labelled", (("XYZ",), "HIV"), False, True),
    ("labelled", (("INFDIS", "XYZ"), "HIV"), False, True),
    ("labelled", (None, "HIV"), False, True),
    ("about", (("TREAT",), "XYZ"), False, True),
    ("about", (("TREAT",), "HPAYMT XYZ"), False, True),
    ("doing", ("read", "XYZ"), False, True),
    ("concerning", ("labs", "XYZ"), False, True),
    ("concerning", ("labs", "emergency_set"), True, True),
    ("labelled", (("HIV",), "XYZ"), False, True),
    ("labelled", ((), "XYZ"), True, True),
    ("coded", (("k1",), "-"), True, True),
    ("coded", (("k1", "k2"), "k1"), True, True),
    ("coded", (("k2",), "k1"), False, False),
    ("coded", (None, "k1"), False, True),
]


@pytest.mark.parametrize("row", WORDS)
def test_the_words_of_a_provision(policy_set: PolicySet, row: Any) -> None:
    """Silence, and a word that nobody knows, is nothing on a permit and everything on a denial."""
    function, arguments, permit, denial = row
    call = policy_set.functions[function].call

    assert (call(*arguments, "permit"), call(*arguments, "deny")) == (permit, denial)


def test_a_delegation_names_what_is_sensitive_wherever_the_switch_stands(
    policy_set: PolicySet, variant: Callable[[Mapping[str, Any]], PolicySet]
) -> None:
    """Order §12; the switch is about consents alone."""
    lenient = variant({"sensitive_requires_explicit": False})
    sides = [one.functions["labelled"].call for one in (policy_set, lenient)]

    assert [call(("HIV",), "-", "permit") for call in sides] == [False, True]
    assert [call(("HIV",), "-", "delegation") for call in sides] == [False, False]
    assert [call(("HIV",), "HIV", "delegation") for call in sides] == [True, True]


CELLS = [
    ("holds", ((), "*"), True), ("holds", (("nurse",), "nurse physician"), True), ("holds", (("nurse",), "-"), False),
    ("acts", ("read", "*"), True), ("acts", ("read", "search read"), True), ("acts", ("read", "search"), False),
    ("touches", (None, "*"), True), ("touches", (None, "labs"), False), ("touches", ("labs", "clinical"), True),
    ("covers", ((), "*"), True), ("covers", ((), "TREAT"), False), ("covers", (("TREAT", "TRAIN"), "TREAT"), False),
    ("states", ((), "TREAT"), False), ("states", (("TREAT",), "TREAT COC"), True), ("states", (("BTG",), "TREAT"), False),
]  # fmt: skip


@pytest.mark.parametrize("row", CELLS)
def test_the_cells_of_a_rule(policy_set: PolicySet, row: Any) -> None:
    """A star is anything, even nothing; of several purposes all must be there."""
    function, arguments, holds = row

    assert policy_set.functions[function].call(*arguments) is holds


def test_who_is_nobody_has_no_record_of_its_own(policy_set: PolicySet) -> None:
    """A record of nobody is not the record of a subject who is no patient."""
    is_self = policy_set.functions["is_self"].call
    sides = [("p1", "p1"), ("p1", "p2"), ("p1", None), (None, "p1"), (None, None)]

    assert [is_self(SimpleNamespace(patient_id=one), SimpleNamespace(patient=two)) for one, two in sides] == [
        True, False, False, False, False,
    ]  # fmt: skip


def test_only_the_highest_level_needs_a_clearance(policy_set: PolicySet) -> None:
    """Of the record or of one of its labels, or a word that nobody knows; the role that the operator names has it."""
    needs = policy_set.functions["needs_clearance"].call
    nurse, physician = SimpleNamespace(roles=("nurse",)), SimpleNamespace(roles=("physician",))
    records = [record(), record(conf="R"), record(labels=("HIV",)), record(conf="V"), record(labels=("PSYTHPN",))]
    records += [record(labels=("INFDIS", "XYZ")), record(labels=("INFDIS",)), record(labels=None)]

    assert [needs(nurse, each) for each in records] == [False, False, False, True, True, True, False, False]
    assert not any(needs(physician, each) for each in records)


def test_a_block_opens_for_a_broken_glass_alone(policy_set: PolicySet) -> None:
    """A session, and the purpose that goes with it."""
    opens = policy_set.functions["opens_when_blocked"].call
    asked = [("b1", ("BTG",)), ("b1", ("TREAT",)), (None, ("BTG",))]

    assert [opens(SimpleNamespace(btg_session=session, purpose=purpose)) for session, purpose in asked] == [
        True, False, False,
    ]  # fmt: skip


def test_what_is_not_stated_reaches_nothing(policy_set: PolicySet) -> None:
    """No class and no purpose find no rule by a word."""
    reaches = {name: policy_set.functions[name].reach for name in ("touches", "covers")}
    assert reaches["touches"] is not None and reaches["covers"] is not None

    assert ([*reaches["touches"](None)], [*reaches["covers"](())]) == ([], [])
    assert ("clinical" in reaches["touches"]("labs"), "TREAT" in reaches["covers"](("ETREAT",))) == (True, True)


def test_the_present_in_cells_of_text() -> None:
    """As they stand in a file: a dash and an empty cell bound nothing."""
    now = Now(5, 5)
    assert [in_force(now, since, until, "permit") for since, until in (("5", "6"), ("-", ""), ("6", "-"), ("-", "5"))] == [
        True, True, False, False,
    ]  # fmt: skip
    assert [in_force(now, None, until, "deny") for until in (5, 6, "6", "")] == [False, True, True, True]
    assert [in_force(now, since, None, "deny") for since in (5, 6, "6", "-")] == [True, False, False, True]


@pytest.mark.parametrize("row", [
    (Grantee("h1"), True), (Grantee("h2"), False), (Grantee(subject="s1"), True), (Grantee(subject="s2"), False),
    (Grantee(role="nurse"), True), (Grantee(role="trainee"), False), (Grantee(group="team"), True),
    (Grantee(group="board"), False), (Grantee("h1", "s1", "nurse", "team"), True), (Grantee("h1", "s2"), False),
])  # fmt: skip
def test_an_entry_names_whom_all_its_parts_name(row: Any) -> None:
    """On a permit and on a denial alike; of several entries one suffices."""
    entry, named = row
    somebody: Any = SimpleNamespace(id="s1", org="h1", roles=("nurse", "patient"), groups=("team",))
    names = naming({"nurse", "patient", "trainee"})

    for effect in ("permit", "deny"):
        assert names(somebody, (entry,), effect) is named
        assert names(somebody, (Grantee("h9"), entry), effect) is named


def test_a_role_that_nobody_knows_is_nobodys_on_a_permit_and_anybodys_on_a_denial() -> None:
    """Of whom the rest of the entry names."""
    somebody: Any = SimpleNamespace(id="s1", org="h1", roles=("nurse",), groups=())
    names, entries = (
        naming({"nurse"}),
        (Grantee(role="doctor"), Grantee("h1", role="doctor"), Grantee("h2", role="doctor")),
    )

    assert [[names(somebody, (entry,), effect) for effect in ("permit", "deny")] for entry in entries] == [
        [False, True], [False, True], [False, False],
    ]  # fmt: skip


def test_who_is_named_can_be_written_and_read() -> None:
    """Nobody is a dash; who states nothing is a star, and only a denial takes it for everybody."""
    lists = ((), (Grantee(),), (Grantee("h1", role="nurse"), Grantee(subject="s1", group="team")))
    texts = [write_grantees(each) for each in lists]
    anybody = SimpleNamespace(id="s9", org=None, roles=(), groups=())

    assert texts == ["-", "*", "org=h1+role=nurse subject=s1+group=team"]
    assert [read_grantees(text) for text in texts] == [*lists]
    names = naming({"nurse"})

    assert [[names(anybody, text, effect) for effect in ("permit", "deny")] for text in texts] == [  # type: ignore[arg-type]
        [False, True], [False, True], [False, False],
    ]  # fmt: skip
