"""Claims become an identity, whole or not at all."""

from typing import Any

import pytest

from ruqsat.core.request import Subject, SubjectProperties
from ruqsat.web.claims import MAX_ACTORS, BadClaimsError, Identity, read_identity

IUA = {
    "subject_name": "Dr. Aida", "subject_organization": "First", "subject_organization_id": "h1",
    "subject_role": [{"system": "urn:x", "code": "doctor"}, {"code": "emergency_clinician"}],
    "purpose_of_use": [{"system": "urn:oid:2.16.840.1.113883.5.8", "code": "TREAT"}],
}  # fmt: skip


def iua(**changes: Any) -> dict[str, Any]:
    """Claims of IHE IUA."""
    return {"sub": "dr_aida", "extensions": {"ihe_iua": IUA | changes}}


def test_claims_of_iua_are_read_as_plain_ones_are() -> None:
    """Codes of HL7 become roles of ours; a code of ours stays."""
    plain = {"sub": "dr_aida", "roles": ["physician", "emergency_clinician"], "org": "h1", "purpose_of_use": ["TREAT"]}

    assert read_identity(iua()) == read_identity(plain)
    assert read_identity(iua() | plain) == read_identity(plain)
    assert read_identity(iua()).subject == Subject(
        "user", "dr_aida", SubjectProperties(("physician", "emergency_clinician"), "h1")
    )


@pytest.mark.parametrize("change", [
    {"roles": ["nurse"]}, {"roles": []}, {"org": "h2"}, {"purpose_of_use": "BTG"}, {"purpose_of_use": ["TREAT", "COC"]},
])  # fmt: skip
def test_two_ways_of_saying_a_thing_must_agree(change: dict[str, Any]) -> None:
    """Whoever reads the one and whoever reads the other must not differ."""
    with pytest.raises(BadClaimsError):
        read_identity(iua() | change)


@pytest.mark.parametrize("claims", [
    {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": " a"}, {"sub": "a\n"}, {"sub": "a" * 257}, {"roles": "physician"},
    {"roles": [7]}, {"roles": ["a"] * 33}, {"org": ["h1"]}, {"purpose_of_use": {"a": 1}}, {"purpose_of_use": [None]},
    {"subject_type": "admin"}, {"subject_type": None}, {"jti": 7}, {"scope": 7}, {"scope": ["a", 7]}, {"scope": "x " * 65},
    {"patient": 7}, {"patient": ""}, {"act": "svc"}, {"act": {}}, {"act": {"sub": 7}}, {"extensions": []},
    {"extensions": {"ihe_iua": []}}, {"extensions": {"ihe_iua": {"subject_role": ["doctor"]}}},
    {"extensions": {"ihe_iua": {"subject_role": [{"display": "x"}]}}},
    {"extensions": {"ihe_iua": {"subject_organization_id": 7}}},
])  # fmt: skip
def test_a_claim_of_another_type_spoils_the_whole(claims: dict[str, Any]) -> None:
    """One claim of a wrong type makes the token none, and nothing of the rest is used."""
    assert isinstance(read_identity({"sub": "dr_aida"}), Identity)
    with pytest.raises(BadClaimsError):
        read_identity({"sub": "dr_aida"} | claims)


@pytest.mark.parametrize(("scope", "told"), [
    (None, None), ("openid profile", None), ("", None), ("user/*.rs", ("user/*.rs",)),
    ("openid user/Observation.rs", ("openid", "user/Observation.rs")), (["patient/*.read"], ("patient/*.read",)),
    ("launch/patient openid", ("launch/patient", "openid")), ("system/nonsense", ("system/nonsense",)),
])  # fmt: skip
def test_smart_scopes_are_told_where_there_are_some(scope: Any, told: tuple[str, ...] | None) -> None:
    """A token without them is no SMART application's; one whose scopes nobody understands is, and may nothing."""
    assert (
        read_identity({"sub": "dr_aida", "scope": scope} if scope is not None else {"sub": "dr_aida"}).smart_scopes
        == told
    )


def test_the_chain_of_actors_is_told_in_order_and_bounded() -> None:
    """The present actor first; a longer chain than anybody can follow is refused."""
    chain: dict[str, Any] = {"sub": "a1", "act": {"sub": "a2"}}
    assert read_identity({"sub": "dr_aida", "act": chain}).actors == ("a1", "a2")
    for number in range(MAX_ACTORS):
        chain = {"sub": f"b{number}", "act": chain}
    with pytest.raises(BadClaimsError):
        read_identity({"sub": "dr_aida", "act": chain})


def test_the_patient_of_the_launch_is_told() -> None:
    """The patient that a SMART application was started for is read, and narrows `patient/` scopes."""
    assert read_identity({"sub": "dr_aida", "patient": "p-1", "scope": "patient/*.rs"}).launch_patient == "p-1"
