"""Signatures over the control API of a real process that verifies them."""

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.registry.corpus import GONE, changed
from tests.registry.documents import CHECKED, OTHER
from tests.sidecar import running_sidecar, stop
from tests.signatures.bad import gost
from tests.signatures.pki import DOCUMENT, Cms, Holder, authority, person
from tests.web.test_consents import KEY, Api, etag, problem, serving

ALWAYS: dict[str, Any] = {"since": datetime(2000, 1, 1, tzinfo=UTC), "until": datetime(2200, 1, 1, tzinfo=UTC)}
SIGNED = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=2)
ROOT = authority("always", **ALWAYS)


def signature(holder: Holder | None = None, document: bytes = DOCUMENT) -> str:
    """Return a signature of two minutes ago under the root that the process trusts."""
    by = holder or person(issuer=ROOT, **ALWAYS)
    return b64encode(Cms(by=by, at=SIGNED, document=document, certificates=[by.der]).der()).decode()


def signed(**changes: Any) -> dict[str, Any]:
    """Return a consent that brings its signature."""
    bare = {f"signature.{name}": GONE for name in ("cert_serial", "cert_iin", "cert_valid_from", "cert_valid_to")}
    own = {
        "signature.at": SIGNED.isoformat(),
        "signature.hash": hashlib.sha256(DOCUMENT).hexdigest(),
        "signature.cms": signature(),
    }
    return changed(bare | own | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A process that trusts the root of the tests, from which the demo world's consent is withdrawn."""
    folder = tmp_path_factory.mktemp("trusting")
    (folder / "root.pem").write_bytes(ROOT.certificate.public_bytes(Encoding.PEM))
    for api in serving(folder, signature_trust=str(folder / "root.pem")):
        assert api.call("dana", "POST", "/c-dana-h1/withdraw").status_code == 200
        yield api


@pytest.fixture
def api(trusting: Api) -> Iterator[Api]:
    """The same, with nothing in force."""
    assert not trusting.may_read()
    yield trusting
    for each in trusting.call("dana", "GET", params={"patient": "p-dana"}).json()["consents"]:
        if each["status"] == "active":
            trusting.call("dana", "POST", f"/{each['consent']}/withdraw")


def items(answer: httpx.Response) -> list[tuple[str, str]]:
    """Return places and codes of what fails."""
    return [(each["path"], each["code"]) for each in answer.json()["items"]]


def test_a_signed_consent_opens_with_its_answer_and_tells_who_verified_it(api: Api) -> None:
    """No attestation of the desk; the record says that the verifier did it, and the whole one says what it found."""
    recorded = api.record(document=signed())
    read = api.call("dana", "GET", f"/{recorded.json()['consent']}").json()

    assert (recorded.status_code, recorded.json()["status"], api.may_read()) == (201, "active", True)
    assert [(each["part"], each["by"]) for each in read["verified"]] == [("signature", "verifier")]
    assert read["verification"]["signature"]["finding"]["algorithm"] == "RSA-SHA256"


def test_anothers_signature_opens_nothing_whatever_the_desk_says(api: Api) -> None:
    """Invalid with its item and law; the desk cannot verify it afterwards either."""
    foreign = signature(person(OTHER, issuer=ROOT, **ALWAYS))
    recorded = api.record(document=signed(signature__cms=foreign) | {"verification": {"signature": CHECKED}})
    path = f"/{recorded.json()['consent']}/verify"

    assert (recorded.json()["status"], api.may_read()) == ("invalid", False)
    assert ("/signature/cms", "wrong_signer") in items(recorded)
    assert recorded.json()["items"][-1]["law"] == "order §9(10)"
    again = api.call("reg_saltanat", "POST", path, json={"signature": CHECKED}, headers=etag(recorded))
    assert problem(again) == (409, "wrong-status") and not api.may_read()


def test_what_the_patient_signed_opens_once_the_desk_confirms_the_patient(api: Api) -> None:
    """Nothing about the signature is left to attest."""
    draft = api.record("dana", signed())
    assert (draft.json()["status"], api.may_read()) == ("draft", False)

    done = api.call("reg_saltanat", "POST", f"/{draft.json()['consent']}/verify", json={}, headers=etag(draft))
    assert (done.json()["status"], api.may_read()) == ("active", True)


def test_gost_without_its_plug_in_says_which_door_it_would_come_in_by(api: Api) -> None:
    """A signature under GOST is refused with an item that names the setting of the plug-in."""
    recorded = api.record(document=signed(signature__cms=b64encode(gost()).decode()))
    item = next(each for each in recorded.json()["items"] if each["path"] == "/signature/cms")

    assert (recorded.json()["status"], item["code"]) == ("invalid", "algorithm_not_supported")
    assert "RUQSAT_SIGNATURE_PLUGIN" in item["do"]


def test_a_huge_signature_is_refused_by_its_shape(api: Api) -> None:
    """Before anybody looks into it."""
    answer = api.record(document=signed(signature__cms="A" * 70_000))

    assert problem(answer) == (422, "malformed-document")
    assert answer.json()["errors"] == [{"path": "/signature/cms", "code": "string-too-long"}]


def test_nothing_of_a_signature_is_in_output_or_journal(api: Api) -> None:
    """Whoever reads logs and journal learns no number and no certificate."""
    api.record(document=signed())
    api.record(document=signed(signature__cms=signature(person(OTHER, issuer=ROOT, **ALWAYS))))
    seen = b"".join(path.read_bytes() for path in (api.folder / "output", *api.folder.rglob("journal/*")))

    assert len(seen) > 1000
    assert not any(word in seen for word in (b"CANARY", b"8808081", b"010101700016", signature()[:60].encode()))


@pytest.mark.parametrize(("settings", "says"), [
    ({"signature_trust": "nowhere.pem"}, "RUQSAT_SIGNATURE_TRUST: there is no such file or folder"),
    ({"signature_plugin": "nowhere.at.all:make"}, "RUQSAT_SIGNATURE_PLUGIN: `nowhere.at.all` cannot be imported"),
    ({"signature_crls": "."}, "signature_crls without signature_trust"),
    ({"signature_plugin": "no factory"}, "RUQSAT_SIGNATURE_PLUGIN"),
])  # fmt: skip
def test_a_wrong_setting_stops_the_start(settings: dict[str, str], says: str, tmp_path: Path) -> None:
    """A setting of signatures that cannot be used stops the start with one line that names it."""
    with (
        pytest.raises(AssertionError, match="did not start") as failed,
        running_sidecar(tmp_path, record_key=KEY, **settings) as sidecar,
    ):
        stop(sidecar.process)
    assert says in str(failed.value).replace("\n", " ")
