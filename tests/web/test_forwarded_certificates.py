"""Certificates that an Envoy tells: of a registered forwarder only, exactly as Envoy writes them, against a list."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruqsat.errors import SettingsError
from ruqsat.web.enforcement_points import PEER, Door, EnforcementPoint, Peer, read_points
from ruqsat.web.forwarded_certificates import XFCC, Hops, MalformedError, read_names
from tests.process.starter import question, serving
from tests.web.test_enforcement_points import DIGEST, DUTIES, SECRET, points_file

HASH = "468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688"
OURS = "spiffe://hospital/records"
WHOLE = (
    f'By=spiffe://hospital/mesh;Hash={HASH};Cert="-----BEGIN%20CERTIFICATE-----%0A";Chain="x";'
    f'Subject="/C=KZ/O=\\"Records\\", Inc.;x=y/CN=a";URI={OURS};DNS=records;DNS=www.records'
)


def test_what_envoy_writes_is_read() -> None:
    """Hash, URI and DNS names; the subject, in quotes with quotes in it, names nobody."""
    assert read_names([WHOLE.encode()], "one") == (f"hash:{HASH}", f"uri:{OURS}", "dns:records", "dns:www.records")
    assert read_names([f"by=a;by=b;hash={HASH};uri={OURS}".encode()], "one") == (f"hash:{HASH}", f"uri:{OURS}")
    assert read_names([b'By=;Subject="";URI='], "one") == ()


def test_the_last_hop_counts_where_several_write() -> None:
    """Only its element is read, and only under that rule; what came before must be well formed all the same."""
    first = f"By=x;URI={OURS}"

    assert read_names([f"{first},By=y;URI=spiffe://elsewhere".encode()], "last") == ("uri:spiffe://elsewhere",)
    with pytest.raises(MalformedError):
        read_names([f"{first},By=y;URI=spiffe://elsewhere".encode()], "one")
    with pytest.raises(MalformedError):
        read_names([f"nonsense,{first}".encode()], "last")
    with pytest.raises(MalformedError):
        read_names([",".join([first] * 17).encode()], "last")


MALFORMED = {
    "nothing": b"", "no pair": b"records", "no key": b"=x", "an unknown key": b"By=x;Role=admin;URI=u", "a blank before a key": b" URI=u",
    "an empty part": b"By=x;;URI=u", "a semicolon at the end": b"URI=u;", "a comma at the end": b"URI=u,", "an empty element": b",URI=u",
    "two URIs": f"URI=spiffe://evil;URI={OURS}".encode(), "a URI behind DNS names": f"DNS=x;URI={OURS}".encode(),
    "two hashes": f"Hash={HASH};Hash={HASH}".encode(), "two subjects": b'Subject="a";Subject="b"', "a hash behind a URI": f"URI=u;Hash={HASH}".encode(),
    "a short hash": b"Hash=468e", "a hash in capitals": f"Hash={HASH.upper()}".encode(), "no hash": b"Hash=;URI=u", "no name": b"DNS=",
    "an open quote": b'URI="u', "a quote inside": b'URI=a"b', "text behind a quote": b'URI="u"x', "an escape at the end": b'Subject="a\\',
    "a blank inside": b"URI=a b", "not ASCII": "URI=spiffe://больница".encode(), "a control": b"URI=a\x01b", "a control in quotes": b'Subject="a\nb"',
}  # fmt: skip


@pytest.mark.parametrize("hops", ["one", "last"])
@pytest.mark.parametrize("name", MALFORMED)
def test_anything_else_names_nobody(name: str, hops: Hops) -> None:
    """Unknown, doubled, out of order, wrongly quoted: not what Envoy writes."""
    with pytest.raises(MalformedError):
        read_names([MALFORMED[name]], hops)


@pytest.mark.parametrize("values", [[], [WHOLE.encode()] * 2, [WHOLE.encode(), b""]])
def test_one_header_and_no_more(values: list[bytes]) -> None:
    """A second header could be the client's."""
    for hops in ("one", "last"):
        with pytest.raises(MalformedError):
            read_names(values, hops)  # type: ignore[arg-type]


@given(st.text('ByHashURIDNS=;,"\\ ax:/\n\x00é', max_size=60))
def test_no_header_breaks_the_reader(text: str) -> None:
    """Whatever the header holds, it is read as names or refused, and nothing else happens."""
    for hops in ("one", "last"):
        try:
            names = read_names([text.encode()], hops)  # type: ignore[arg-type]
        except MalformedError:
            continue
        assert all(name.partition(":")[0] in ("hash", "uri", "dns") for name in names)


@given(st.text('ax:/;,="', max_size=20), st.text('ax.;,="', max_size=20))
def test_a_name_with_marks_in_it_adds_no_other_uri(uri: str, dns: str) -> None:
    """A certificate whose names were chosen by somebody hostile: never another's URI behind a quote, `;` or `,`."""
    for sneaky in (f"{uri};URI={OURS}", f"{uri},URI={OURS}", f'{uri};Subject="x";URI={OURS}'):
        try:
            names = read_names([f"By=m;Hash={HASH};URI={sneaky};DNS=x".encode()], "one")
        except MalformedError:
            continue
        assert f"uri:{OURS}" not in names
    with suppress(MalformedError):
        assert f"uri:{OURS}" not in read_names([f"By=m;URI=spiffe://evil;DNS={dns};URI={OURS}".encode()], "one")


MESH = EnforcementPoint(("json",), uid=(7,), forwards="one", name="mesh")
RECORDS = EnforcementPoint(("json",), certificate=(f"uri:{OURS}",), behind="mesh", name="records")
PORTAL = EnforcementPoint(("json",), secret_sha256=DIGEST, name="portal")
BY_HASH = EnforcementPoint(
    ("json",), certificate=(f"hash:{HASH}",), behind="mesh", secret_sha256=DIGEST, name="by-hash"
)
FORWARDER, STRANGER = Peer(uid=7), Peer(uid=8)


def found(
    peer: Peer,
    *told: bytes,
    secret: bytes | None = None,
    points: tuple[EnforcementPoint, ...] = (MESH, RECORDS, PORTAL),
) -> str | None:
    """The name of the point that is let in."""
    headers = [(XFCC, value) for value in told] + ([(b"x-ruqsat-secret", secret)] if secret else [])
    point = Door(points).enter({PEER: peer, "headers": headers})
    return None if point is None else point.name


def test_a_forwarder_asks_for_whoever_its_header_names() -> None:
    """By a name on the list; every proof of that entry must hold."""
    assert found(FORWARDER, WHOLE.encode()) == "records"
    assert found(FORWARDER, f"Hash={HASH}".encode(), secret=SECRET, points=(MESH, RECORDS, BY_HASH)) == "by-hash"
    assert found(FORWARDER, f"Hash={HASH}".encode(), points=(MESH, RECORDS, BY_HASH)) is None


@pytest.mark.parametrize("told", [(), (b"URI=spiffe://elsewhere",), (b"garbage",), (WHOLE.encode(), WHOLE.encode()), (WHOLE.encode() + b",URI=x",),
                                  (f"By={OURS}".encode(),), (f'Subject="{OURS}"'.encode(),), (f"DNS={OURS}".encode(),), (f"URI={OURS}/x".encode(),)])  # fmt: skip
def test_a_forwarder_asks_for_nobody_else_and_never_for_itself(told: tuple[bytes, ...]) -> None:
    """Without the header, with a malformed one, with another's name, with the name in another part: nobody."""
    assert found(FORWARDER, *told) is None
    assert found(FORWARDER, *told, secret=SECRET) is None


def test_the_header_of_anybody_else_is_not_read() -> None:
    """Neither helps nor harms: a peer that is no forwarder is let in by its own proofs, or not."""
    for peer in (STRANGER, Peer(), Peer((f"uri:{OURS}",))):
        assert found(peer, WHOLE.encode()) is None
        assert found(peer, WHOLE.encode(), secret=SECRET) == "portal"
        assert found(peer, b"garbage", secret=SECRET) == "portal"


def test_who_is_behind_one_forwarder_is_not_behind_another() -> None:
    """An entry counts only where it says that it is."""
    other = EnforcementPoint(("json",), uid=(9,), forwards="one", name="other")

    assert found(Peer(uid=9), WHOLE.encode(), points=(MESH, other, RECORDS)) is None
    assert found(FORWARDER, WHOLE.encode(), points=(MESH, other, RECORDS)) == "records"


def entry(**fields: Any) -> str:
    """An entry of the file."""
    return "".join(f"{key} = {value}\n" for key, value in fields.items())


FORWARDS = "[mesh]\n" + entry(listeners='["json"]', uid="[7]", forwards='"one"')
BEHIND = "[records]\n" + entry(listeners='["json"]', behind='"mesh"', certificate=f'["uri:{OURS}"]')


@pytest.mark.parametrize("text", [
    BEHIND, "[mesh]\n" + entry(listeners='["json"]', uid="[7]") + BEHIND, FORWARDS.replace('"one"', '"all"') + BEHIND,
    FORWARDS.replace("uid = [7]", f'secret_sha256 = "{DIGEST}"') + BEHIND, FORWARDS + f'secret_sha256 = "{DIGEST}"\n' + BEHIND,
    FORWARDS.replace('["json"]', '["auth"]') + BEHIND.replace('["json"]', '["auth"]'), FORWARDS.replace('["json"]', '["json", "grpc"]') + BEHIND,
    FORWARDS + "explain = true\n" + BEHIND, FORWARDS + BEHIND + "uid = [7]\n", FORWARDS + BEHIND.replace('["json"]', '["control"]'),
    FORWARDS + BEHIND.replace("uri:", "ip:"), FORWARDS + "[records]\n" + entry(listeners='["json"]', behind='"mesh"', secret_sha256=f'"{DIGEST}"'),
    FORWARDS + 'behind = "records"\n' + BEHIND, FORWARDS + "[x]\n" + entry(listeners='["json"]', certificate=f'["hash:{HASH}"]'),
])  # fmt: skip
def test_a_file_by_which_somebody_could_speak_for_others_is_refused(text: str, tmp_path: Path) -> None:
    """A forwarder is proven by its connection, only forwards, and only where callers are applications."""
    with pytest.raises(SettingsError):
        read_points(points_file(tmp_path, text), DUTIES)


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    """And needs no certificates of its own listener."""
    points = read_points(points_file(tmp_path, FORWARDS + BEHIND), DUTIES)

    assert points.is_guarded("json") and not points.needs_certificates("json")


def test_a_real_listener_believes_its_forwarder_and_nobody_else(tmp_path: Path) -> None:
    """Behind a Unix socket, as the user that the kernel tells; the name of the application stands in the journal."""
    for uid, status in ((os.getuid(), 200), (os.getuid() + 1, 401)):
        folder = tmp_path / str(uid)
        folder.mkdir()
        text = FORWARDS.replace("[7]", f"[{uid}]") + BEHIND
        with serving(
            folder, enforcement_points=str(points_file(folder, text)), json_listen=f"unix:{folder}/ask.sock"
        ) as sidecar:
            assert sidecar.evaluate(question(), **{"x-forwarded-client-cert": WHOLE}).status_code == status
            for told in ({}, {"x-forwarded-client-cert": "URI=spiffe://elsewhere"}, {"x-forwarded-client-cert": "x"}):
                assert sidecar.evaluate(question(), **told).status_code == 401
        journal = b"".join(path.read_bytes() for path in sidecar.journal.iterdir() if path.is_file())
        assert (b'"point":"records"' in journal) == (status == 200)
