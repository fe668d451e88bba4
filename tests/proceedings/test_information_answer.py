"""What the answer on what is on record tells, and what it must not tell."""

import re
from typing import Any

from msgspec.structs import replace

from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    Grantee,
    PatientFacts,
    Provision,
    RecordStatus,
    Representation,
    StatutoryRequest,
)
from ruqsat.core.information_answer import information_answer
from ruqsat.core.instant import parse_instant
from ruqsat.web.information_page import write_page

NOW = 1_800_000_000_000_000
LATER = NOW + 1
CONSENT = Consent(
    "c1", "t", "active", 1,
    Provision("permit", (Grantee(org="h1"),), ("TREAT",), ("read",), ("labs",), start=1, end=LATER), delegations=("g1",),
)  # fmt: skip
REFUSAL = Consent(
    "c2", "t2", "active", 2, Provision("deny", (Grantee(org="h2"),), ("HRESCH",), ("search",), ("genomics",))
)
COURT = StatutoryRequest("r1", "court", ("labs",), LATER)
FACTS = PatientFacts(
    "p1",
    consents=(CONSENT, REFUSAL),
    delegations=(Delegation("g1", "c1", "arman", LATER, ("vitals",), ("FAMRQT",)),),
    records=(
        RecordStatus("o1", "labs"), RecordStatus("o2", "labs", blocked=True), RecordStatus("o3", "imaging", destroyed=True),
        RecordStatus("o4", "genomics", ("TBOO",)), RecordStatus("o5", "documents", ("HIV",)),
    ),
    requests=(COURT,),
)  # fmt: skip
DOCUMENTS = {"c1": {"purpose_text": "care at h1", "methods_text": "by hand", "operator": {"name": "Hospital <One>"}}}
SAID = {"sources": ["owner_statement"], "methods": ["an instrument"], "storage_terms": "25 years"}


def answer(facts: PatientFacts | None = FACTS, **said: Any) -> dict[str, Any]:
    """Return the answer at a fixed moment."""
    return information_answer("p1", facts, DOCUMENTS, SAID | said, NOW)


def test_it_tells_existence_list_purposes_sources_methods_and_terms() -> None:
    """Each part of order §18; counted by class, from the store, and the rest as the office says it."""
    told = answer()
    assert told["exists"] is True
    assert told["classes"] == [
        {"class": "documents", "records": 1, "blocked": 0}, {"class": "labs", "records": 2, "blocked": 1},
    ]  # fmt: skip
    assert (told["purposes"], told["purpose_texts"]) == (["TREAT"], ["care at h1"])
    assert (told["sources"], told["methods"], told["actions"]) == (
        ["owner_statement"],
        ["an instrument", "by hand"],
        ["read"],
    )
    assert told["storage_terms"] == "25 years"
    assert [(each["id"], each["effect"], each["end"] is not None) for each in told["consents"]] == [
        ("c1", "permit", True), ("c2", "deny", False),
    ]  # fmt: skip
    assert [(each["ground"], each["who"]) for each in told["recipients"]] == [
        ("consent", "Hospital <One>"), ("delegation", "arman"), ("request", "court"),
    ]  # fmt: skip


def test_what_was_withdrawn_let_in_until_then_and_what_was_never_in_force_lets_nobody_in() -> None:
    """The withdrawal is the end that is told, and the page says what it was; a draft or a defective permit names nobody."""
    withdrawn = answer(replace(FACTS, consents=(replace(CONSENT, status="revoked", revoked_at=NOW - 1_000_000),)))
    consent, recipient = withdrawn["consents"][0], withdrawn["recipients"][0]
    assert (recipient["ground"], recipient["until"]) == ("consent", consent["withdrawn_at"]) != (None, consent["end"])
    assert "permitted, withdrawn" in write_page(withdrawn, "en", 5) and "withdrawn" not in write_page(answer(), "en", 5)
    for change in ({"status": "draft"}, {"status": "rejected"}, {"defect": "incomplete"}):
        told = answer(replace(FACTS, consents=(replace(CONSENT, **change),)))
        assert "consent" not in {each["ground"] for each in told["recipients"]}


def test_nobody_on_record_is_told_so() -> None:
    """Not an error: the answer is that there is nothing."""
    told = answer(None)
    assert (told["exists"], told["classes"], told["consents"], told["recipients"]) == (False, [], [], [])


def test_what_a_clinician_withholds_and_what_was_destroyed_is_not_there() -> None:
    """Code 134(4), order §24: neither the class nor a count gives it away; once the hold is lifted it is there."""
    assert {each["class"] for each in answer()["classes"]} == {"labs", "documents"}
    lifted = replace(FACTS, records=(replace(FACTS.records[3], labels=()),))
    assert [each["class"] for each in answer(lifted)["classes"]] == ["genomics"]


def test_a_request_that_must_not_be_told_is_not_told() -> None:
    """Deferred on a written ground: not before the moment it ends; of a special state body: never."""
    for request, is_told in (
        (replace(COURT, deferred_until=LATER), False), (replace(COURT, deferred_until=NOW), True),
        (replace(COURT, authority="special_state_body"), False),
    ):  # fmt: skip
        grounds = [each["ground"] for each in answer(replace(FACTS, requests=(request,)))["recipients"]]
        assert ("request" in grounds) == is_told, request


def test_the_page_escapes_what_people_wrote_and_knows_every_word() -> None:
    """Whatever stands in a field; a word that no catalogue has is shown as it is."""
    nasty = '<script>alert("x")</script>'
    told = answer(storage_terms=nasty, methods=[nasty])
    told["recipients"][0]["who"] = nasty
    told["classes"].append({"class": nasty, "records": 1, "blocked": 0})
    for language in ("kk", "ru", "en"):
        page = write_page(told, language, 5)  # type: ignore[arg-type]
        assert "<script" not in page and page.count("&lt;script&gt;") == 4
        assert "page." not in page and "class." not in page and "purpose." not in page
    assert "Hospital &lt;One&gt;" in write_page(answer(), "kk", 5)


def test_the_page_tells_days_at_home_and_an_end_by_its_last_day() -> None:
    """Five hours ahead of UTC: a term of whole days is told by these days; of another clock by that clock's."""
    start, end = parse_instant("2026-11-20T00:00:00+05:00"), parse_instant("2027-03-01T00:00:00+05:00")
    root = replace(CONSENT.root, start=start, end=end)
    told = information_answer(
        "p1", replace(FACTS, consents=(replace(CONSENT, root=root),)), {}, SAID, parse_instant("2026-11-26T19:30:00Z")
    )
    days = re.findall(r"<time>(.*?)</time>", write_page(told, "en", 5))
    assert days[:3] == ["2026-11-27", "2026-11-20", "2027-02-28"] and days.count("2027-02-28") == 2
    assert re.findall(r"<time>(.*?)</time>", write_page(told, "en", 0))[:3] == [
        "2026-11-26",
        "2026-11-19",
        "2027-02-28",
    ]


def test_a_power_that_nobody_verified_lets_nobody_in_and_nobodys_number_is_told() -> None:
    """Order §11; an id that holds an identification number is left out, as in the access log (reading A-35)."""
    power = Representation("q1", "saule", "parent", verified=False)
    told = answer(replace(FACTS, representations=(power, replace(power, id="q2", subject="timur", verified=True))))
    assert [each["who"] for each in told["recipients"] if each["ground"] == "representation"] == ["timur"]

    number = "880808100203"
    grant = EmergencyGrant(
        "s1", number, start=1, end=2, reason_code="unconscious", reason_length=20, mfa=True, categories=("labs",)
    )
    named = replace(
        FACTS, consents=(replace(CONSENT, root=replace(CONSENT.root, grantees=(Grantee(subject=number),))),), grants=(grant,),
        delegations=(replace(FACTS.delegations[0], delegate=number),),
        representations=(replace(power, subject=number, verified=True),),
    )  # fmt: skip
    assert number not in repr(answer(named)) and len(answer(named)["recipients"]) == 5


def test_the_page_says_of_what_is_not_in_force_that_it_is_not() -> None:
    """A draft, a permit with a defect, one before or after its term, a refusal that was lifted: none is told as in force."""
    word, over = "permitted, not in force", "refused, not in force"
    assert word not in write_page(answer(), "en", 5) and over not in write_page(answer(), "en", 5)
    root = CONSENT.root
    for change in (
        {"status": "draft"}, {"status": "superseded"}, {"defect": "incomplete"}, {"root": replace(root, end=NOW)},
        {"root": replace(root, start=LATER)},
    ):  # fmt: skip
        assert word in write_page(answer(replace(FACTS, consents=(replace(CONSENT, **change),))), "en", 5), change
    lifted = answer(replace(FACTS, consents=(replace(REFUSAL, status="revoked", revoked_at=NOW - 1),)))
    assert over in write_page(lifted, "en", 5)
    old = [{name: said for name, said in each.items() if name != "in_force"} for each in lifted["consents"]]
    assert over not in write_page(lifted | {"consents": old}, "en", 5)
