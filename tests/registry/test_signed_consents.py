"""Consents that bring their signature: what the verifier finds decides, and no desk says otherwise."""

import asyncio
import hashlib
import json
import threading
from base64 import b64encode, encodebytes
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from ruqsat.core import consent_signature
from ruqsat.core.consent_record import Attested, ConsentRow, project
from ruqsat.core.consent_signature import unverified_document, without_documents
from ruqsat.core.facts import PatientFacts
from ruqsat.core.signature_finding import Finding, SignedContent
from ruqsat.core.vocabulary import Switches, parse_vocabulary
from ruqsat.service.consent_changes import Call, Caller, Circumstances, RegistryError, describe, new_row, unsealed
from ruqsat.service.consent_changes import verified as verified_row
from ruqsat.service.consent_registry import ConsentRegistry
from ruqsat.service.consent_signatures import examine
from ruqsat.service.record_seal import RecordSeal
from ruqsat.service.signatures import SignatureVerifier
from ruqsat.service.verifications import Verifications
from ruqsat.signatures.cms_verifier import CmsVerifier
from ruqsat.web.consent_models import ConsentIn, Verification, read_model
from tests.conftest import ROOT
from tests.registry.corpus import BY_REPRESENTATIVE, GONE, changed
from tests.registry.documents import BIN, CHECKED, OTHER, REPRESENTATIVE
from tests.registry.test_changes import DESK, ENTRY, PATIENT, WRITTEN
from tests.registry.test_items import CATALOGUE, NOW
from tests.signatures.pki import DOCUMENT, SIGNED, Cms, organisation, person, signer, trust

VERIFIER = CmsVerifier(trust())
SEAL = RecordSeal(bytes(32))
HASH = hashlib.sha256(DOCUMENT).hexdigest()
BARE: dict[str, Any] = {
    f"signature.{name}": GONE for name in ("cert_serial", "cert_iin", "cert_valid_from", "cert_valid_to")
} | {"signature.hash": HASH}
"""What of a signature nobody needs to write down where the signature itself is there."""


STATED = {f"signature.{name}": value for name, value in {
    "cert_serial": "ab:cd:ef:01:23", "hash": HASH, "cert_valid_from": (SIGNED - timedelta(days=100)).isoformat(),
    "cert_valid_to": (SIGNED + timedelta(days=265)).isoformat(),
}.items()}  # fmt: skip


def text(der: bytes) -> str:
    """Return a signature as callers send it."""
    return b64encode(der).decode()


def signed(changes: dict[str, Any] | None = None, cms: Cms | bytes | None = None) -> dict[str, Any]:
    """Return the whole consent with its signature, and nothing said of the certificate."""
    der = cms if isinstance(cms, bytes) else (cms or Cms()).der()
    return changed(BARE | {"signature.cms": text(der)} | (changes or {}))


def about(examined: Any, caller: Caller = DESK) -> Circumstances:
    """Return who records what was examined, and when."""
    return Circumstances(caller, NOW, CATALOGUE, Switches(), SEAL, examined)


def bounded(verifier: SignatureVerifier | None, seconds: float = 20.0) -> Verifications | None:
    """Return a verifier as a registry asks it."""
    return None if verifier is None else Verifications(verifier, seconds)


def recorded(
    document: dict[str, Any],
    caller: Caller = DESK,
    verifier: SignatureVerifier | None = VERIFIER,
    strict: bool = False,
    seconds: float = 20.0,
) -> ConsentRow:
    """Return the first version of a record, its signature examined."""
    data = read_model(ConsentIn, json.dumps(document).encode())
    examined = asyncio.run(examine(bounded(verifier, seconds), data, data["verification"], NOW))
    return new_row("c1", without_documents(data), strict, about(examined, caller))


def checked(row: ConsentRow, verifier: SignatureVerifier | None = VERIFIER, **parts: Any) -> ConsentRow:
    """Return what becomes of a record when the desk verifies it with these parts."""
    verification = read_model(Verification, json.dumps(parts).encode())
    document = unverified_document(unsealed(row, SEAL)["document"], row.body.attested)
    examined = asyncio.run(examine(bounded(verifier), document, verification, NOW))
    return verified_row(row, without_documents({"verification": verification})["verification"], about(examined))


def codes(row: ConsentRow) -> list[tuple[str, str, str]]:
    """Return what a record fails."""
    return [(each.path, each.item, each.code) for each in row.body.items]


def test_a_signed_consent_is_in_force_without_anybody_attesting_the_signature() -> None:
    """The desk hands it in, the verifier verifies it; who did is on record, and so is what the certificate says."""
    row = recorded(signed())
    kept = unsealed(row, SEAL)

    assert (row.status, row.version, codes(row), project(row, Switches()).defect) == ("active", 1, [], None)
    assert row.body.attested == (Attested("signature", "verifier", NOW),)
    assert describe(row)["verified"][0]["by"] == "verifier"
    assert kept["document"]["signature"]["cert_serial"] == "abcdef0123"
    assert kept["verification"]["signature"]["finding"]["iin"] == kept["document"]["owner"]["iin"]


def test_the_open_part_names_nobody() -> None:
    """Numbers, certificates and signatures travel sealed."""
    row = recorded(signed())

    for seen in (msgspec.json.encode(row.body), json.dumps(describe(row), default=str).encode(), row.sealed):
        assert b"8808081" not in seen and b"abcdef0123" not in seen and b"CANARY" not in seen


def test_the_document_itself_may_come_along_and_is_not_kept() -> None:
    """In the place of its hash, which is then on record."""
    row = recorded(signed({"signature.hash": GONE, "signature.document": text(DOCUMENT)}))
    kept = unsealed(row, SEAL)

    assert (row.status, kept["document"]["signature"]["hash"]) == ("active", HASH)
    assert text(DOCUMENT) not in json.dumps(kept)


def test_armour_is_read_too() -> None:
    """PEM, as the national centre's program writes it."""
    pem = b"-----BEGIN CMS-----\n" + encodebytes(Cms().der()) + b"-----END CMS-----\n"

    assert recorded(signed({"signature.cms": pem.decode()})).status == "active"


FOREIGN = person(OTHER)
AGAINST: dict[str, tuple[dict[str, Any], str, str]] = {
    "another document": (signed({"signature.hash": "9f" * 32}), "/signature/cms", "content_differs"),
    "a document that is not the hash's": (
        signed({"signature.document": text(DOCUMENT), "signature.hash": "9f" * 32}), "/signature/cms", "hash_mismatch",
    ),
    "an odd hash": (signed({"signature.hash": "9" * 33}), "/signature/cms", "content_differs"),
    "no base64": (signed({"signature.cms": "CANARY!"}), "/signature/cms", "malformed"),
    "nothing": (signed({"signature.cms": ""}), "/signature/cms", "malformed"),
    "letters": (signed({"signature.cms": "-----BEGIN ҚАЗ-----"}), "/signature/cms", "malformed"),
    "a changed signature": (signed(cms=Cms().der()[:-1] + b"\x00"), "/signature/cms", "signature_wrong"),
    "another person": (signed(cms=Cms(by=FOREIGN)), "/signature/cms", "wrong_signer"),
    "an organisation": (signed(cms=Cms(by=organisation())), "/signature/cms", "wrong_signer"),
    "the owner, for an organisation": (
        signed(cms=Cms(by=person(parts={"unit": f"BIN{BIN}"}))), "/signature/cms", "wrong_signer",
    ),
    "nobody": (signed(cms=Cms(by=person(parts={"serial": "880808100001"}))), "/signature/cms", "wrong_signer"),
    "the owner in the place of the representative": (signed(BY_REPRESENTATIVE), "/signature/cms", "wrong_signer"),
    "another hour": (signed(cms=Cms(at=SIGNED + timedelta(hours=1))), "/signature/cms", "other_time"),
    "an earlier hour": (signed(cms=Cms(at=SIGNED - timedelta(hours=1))), "/signature/cms", "other_time"),
    "another serial number": (signed({"signature.cert_serial": "abc"}), "/signature/cms", "certificate_differs"),
    "another validity": (
        signed({"signature.cert_valid_to": "2099-01-01T00:00:00Z"}), "/signature/cms", "certificate_differs",
    ),
    "by hand": (signed({"signature.kind": "handwritten", "form": "written"}), "/signature/kind", "not_allowed"),
}  # fmt: skip


@pytest.mark.parametrize("name", AGAINST)
def test_a_signature_that_does_not_hold_makes_the_record_invalid(name: str) -> None:
    """With the item, the place and the code; it opens nothing, whatever the desk attests with it."""
    document, path, code = AGAINST[name]
    for more in ({}, {"verification": {"signature": CHECKED}}):
        row = recorded(document | more)

        assert row.status == "invalid" and project(row, Switches()).defect
        assert (path, "R9.10", code) in codes(row)
        assert row.body.attested == ()
        assert all(each.law == "order §9(10)" and each.fix and "CANARY" not in each.fix for each in row.body.items)


def test_who_asks_for_strictness_is_refused_with_the_finding() -> None:
    """A strict caller whose signature fails is refused with the finding, so that nothing is kept."""
    with pytest.raises(RegistryError) as refused:
        recorded(AGAINST["another person"][0], strict=True)

    assert "wrong_signer" in [each.code for each in refused.value.findings]


def test_a_representative_signs_in_the_own_name_and_the_powers_are_still_the_desks() -> None:
    """The signature is verified, the consent a draft until the powers are checked (order §11)."""
    row = recorded(signed(BY_REPRESENTATIVE | BARE, Cms(by=person(REPRESENTATIVE))))
    whole = checked(row, representative=CHECKED)

    assert (row.status, project(row, Switches()).defect) == ("draft", "rep_unverified")
    assert (whole.status, project(whole, Switches()).defect) == ("active", None)
    assert [(each.part, each.by, each.subject) for each in whole.body.attested] == [
        ("signature", "verifier", None), ("representative", "desk", DESK.subject),
    ]  # fmt: skip


def test_what_the_patient_signed_waits_for_the_desk_to_say_which_patient_it_is() -> None:
    """The signature proves a person, not a record: the desk confirms, and attests no signature."""
    row = recorded(signed(), PATIENT)
    confirmed = checked(row)

    assert (row.status, row.body.attested) == ("draft", (Attested("signature", "verifier", NOW),))
    assert (confirmed.status, confirmed.version, project(confirmed, Switches()).defect) == ("active", 2, None)
    assert checked(row, signature={"ok": False, "method": "m", "document_ref": "r"}).status == "rejected"


def test_what_was_verified_when_it_came_is_not_judged_by_what_came_after() -> None:
    """The certificate ends before the desk confirms: the signature was handed in while it was valid."""
    row = recorded(signed(), PATIENT)

    class Later:
        """A verifier to whom every certificate is over."""

        def verify(self, signature: bytes, content: SignedContent, at: int) -> Finding:
            """Find that it is over."""
            return Finding("certificate_expired_since")

    assert checked(row, Later()).status == "active"
    assert (
        checked(
            recorded(changed(STATED | {"signature.cms": text(Cms().der())}), verifier=None), Later(), signature=CHECKED
        ).status
        == "rejected"
    )


def test_without_a_verifier_the_desk_attests_as_ever() -> None:
    """Nothing is verified and nothing trusted by default: the signature is kept, the desk's word counts and is on record."""
    whole = {f"signature.{name}": value for name, value in changed({})["signature"].items() if name != "hash"}
    row = recorded(signed(whole), verifier=None)
    attested = checked(row, None, signature=CHECKED)

    assert (row.status, row.body.attested, project(row, Switches()).defect) == ("draft", (), "signature")
    assert (attested.status, attested.body.attested) == ("active", (Attested("signature", "desk", NOW, DESK.subject),))
    assert (
        recorded(signed(), verifier=None).status == "invalid"
    )  # the certificate's details are then the desk's to state
    with pytest.raises(RegistryError) as refused:
        checked(row, None, signature={"cms": text(Cms().der())})
    assert ("/signature/ok", "missing") in [(each.path, each.code) for each in refused.value.findings]


def test_a_signature_may_come_with_the_verification() -> None:
    """Good, it verifies without a word of the desk's; bad, it rejects against the desk's word; nothing follows."""
    draft = recorded(changed(STATED))
    good = checked(draft, signature={"cms": text(Cms().der())})
    bad = checked(draft, signature=CHECKED | {"cms": text(Cms(by=FOREIGN).der())})

    assert (draft.status, good.status, good.body.attested[0].by) == ("draft", "active", "verifier")
    assert (bad.status, codes(bad), bad.body.attested) == (
        "rejected", [("/signature/cms", "R9.10", "wrong_signer")], (),
    )  # fmt: skip
    assert unsealed(bad, SEAL)["verification"]["signature"]["ok"] is False


def test_a_good_signature_beside_a_bad_one_helps_nothing() -> None:
    """The one on record and the one that is brought must both hold, and the desk's word changes nothing."""
    good, bad = text(Cms().der()), text(Cms().der()[:-1] + b"\x00")
    foreign = text(Cms(by=FOREIGN).der())
    for own, later, code in (
        (bad, good, "signature_wrong"), (good, bad, "signature_wrong"),
        (foreign, good, "wrong_signer"), (good, foreign, "wrong_signer"),
    ):  # fmt: skip
        draft = recorded(changed(STATED | {"signature.cms": own}), verifier=None)
        mixed = checked(draft, signature={"ok": True, "cms": later})
        assert (mixed.status, codes(mixed)) == ("rejected", [("/signature/cms", "R9.10", code)])


def paper(cms: Cms | None = None, **entry: Any) -> dict[str, Any]:
    """Return the entry of a paper under the hospital's signature."""
    signature = text((cms or Cms(by=organisation())).der())
    return {"at": SIGNED.isoformat(), "bin": BIN, "eds_serial": None, "scan_hash": HASH, "cms": signature} | entry


def test_a_paper_is_entered_under_a_verified_signature_of_the_operator() -> None:
    """Serial number and moment come from the signature itself; the scan does not stay (order §10)."""
    whole = checked(recorded(changed(WRITTEN)), entry=paper(document=text(DOCUMENT), at=None, bin=None))
    kept = unsealed(whole, SEAL)["verification"]["entry"]

    assert (whole.status, project(whole, Switches()).defect) == ("active", None)
    assert whole.body.attested == (Attested("entry", "verifier", NOW),)
    assert (kept["eds_serial"], kept["bin"], kept["document"]) == ("5150", BIN, None)
    attested = checked(recorded(changed(WRITTEN)), entry=ENTRY)
    assert attested.body.attested == (Attested("entry", "desk", NOW, DESK.subject),)


@pytest.mark.parametrize(("entry", "code"), [
    (paper(scan_hash="ab" * 32), "content_differs"),
    (paper(Cms()), "wrong_signer"),
    (paper(Cms(by=person(parts={"unit": "BIN010440001238"}))), "wrong_signer"),
    (paper(at=(SIGNED + timedelta(days=1)).isoformat()), "other_time"),
    (paper(eds_serial="5151"), "certificate_differs"),
    (paper() | {"cms": ""}, "malformed"),
])  # fmt: skip
def test_a_paper_under_no_good_signature_of_the_operator_is_rejected(entry: dict[str, Any], code: str) -> None:
    """The desk's own fields do not help it."""
    row = checked(recorded(changed(WRITTEN)), entry=entry)

    assert (row.status, codes(row)) == ("rejected", [("/entry/cms", "R10", code)])
    assert row.body.items[0].law == "order §10"


def test_a_single_practitioner_enters_papers_under_the_own_number() -> None:
    """Such an operator is a person (order §9(3))."""
    own = {
        "operator.kind": "individual",
        "operator.iin": OTHER,
        "operator.surname": "A",
        "operator.given": "B",
        "operator.bin": GONE,
    }
    row = recorded(changed(own, changed(WRITTEN)))

    assert checked(row, entry=paper(Cms(by=FOREIGN), bin=OTHER)).status == "active"
    assert codes(checked(row, entry=paper(Cms(), bin=OTHER)))[0][2] == "wrong_signer"


def test_a_refusal_waits_for_no_signature() -> None:
    """It binds on receipt, whatever its signature is (order §14)."""
    row = recorded(signed({"effect": "deny"}, b"none"))

    assert (row.status, codes(row)) == ("active", [])


def test_a_verifier_that_takes_too_long_verifies_nothing() -> None:
    """The call is answered all the same."""
    released = threading.Event()

    class Hanging:
        """A verifier that waits for somebody who does not answer."""

        def verify(self, *_: Any) -> Finding:
            """Wait."""
            released.wait(60)
            return Finding("verifier_failed")

    found = codes(recorded(signed(), verifier=Hanging(), seconds=0.05))
    released.set()
    assert ("/signature/cms", "R9.10", "verifier_failed") in found


PLANTED = {
    "signer": ("_not_by", "another person"),
    "time and certificate": ("_not_as_stated", "another serial number"),
}


@pytest.mark.parametrize("check", PLANTED)
def test_a_check_that_is_left_out_is_missed(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the case of the table would be in force."""
    function, case = PLANTED[check]
    monkeypatch.setattr(consent_signature, function, lambda *_: None)

    assert ("/signature/cms", "R9.10") not in [each[:2] for each in codes(recorded(AGAINST[case][0]))]


def test_the_registry_asks_its_verifier() -> None:
    """Through its own use case, from the call to the answer."""
    vocabulary, _ = parse_vocabulary((ROOT / "policies" / "vocabulary.toml").read_text(), "vocabulary.toml")
    assert vocabulary is not None

    class Store:
        """Keeps nothing."""

        async def is_somebody_else(self, patient: str, tags: tuple[bytes, ...]) -> bool:
            """Nobody is."""
            return False

        async def change_records(self, patient: str, wanted: Any, key: Any, change: Any) -> Any:
            """Return what would change."""
            return change(PatientFacts(id=patient), {}, None)

    store: Any = Store()
    for verifier, status in (
        (VERIFIER, "active"),
        (CmsVerifier(msgspec.structs.replace(trust(), roots=())), "invalid"),
    ):
        registry = ConsentRegistry(store, store, SEAL, lambda: vocabulary, str, lambda: NOW, bounded(verifier))
        data = read_model(ConsentIn, json.dumps(signed()).encode())
        assert asyncio.run(registry.create(DESK, data, Call()))["status"] == status


def test_the_signer_of_the_tests_is_the_owner() -> None:
    """Else every test here would be of something else."""
    assert (
        VERIFIER.verify(Cms().der(), SignedContent(DOCUMENT), NOW).serial == f"{signer().certificate.serial_number:x}"
    )
