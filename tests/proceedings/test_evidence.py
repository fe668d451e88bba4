"""The evidence package: made from a real process's store and journal, verified with nothing but itself."""

import base64
import json
import os
import random
import shutil
import stat
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ruqsat.core.chain import NO_HASH, SegmentHeader
from ruqsat.core.evidence import ENTRIES, INCLUSION, MANIFEST, SIGNATURE, manifest_of, read_manifest
from ruqsat.core.instant import parse_instant, render_instant
from ruqsat.core.journaled import read_line
from ruqsat.core.line import build_line
from ruqsat.core.notice import Notice
from ruqsat.core.outgoing import Listed
from ruqsat.core.personal import lifted
from ruqsat.core.proceeding import Hour
from ruqsat.core.signed_note import VerifierKey
from ruqsat.core.working_days import WorkingDays
from ruqsat.errors import SettingsError
from ruqsat.service.evidence import Extent, Found, build_package, faults
from ruqsat.stores.evidence_file import read_archive, write_archive
from ruqsat.stores.journal_folder import list_segments
from ruqsat.stores.journal_key import make_signing_key
from tests.duties.ground import make
from tests.process.starter import run_cli
from tests.registry.record_documents import CHECK, whole
from tests.views.ground import AT, NOW, written
from tests.web.test_consents import KEY, etag
from tests.web.test_proceedings import ASKED, DEMANDED, RECORD, begin, step
from tests.web.test_records import serving

NAME = "clinic.example/a"


class Made:
    """A folder in which a process has been, and its packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        for name, each in (("key", key), ("other", other)):
            private = each.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            public = each.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            (folder / f"{name}.pem").write_bytes(private)
            (folder / f"{name}.pub").write_bytes(public)

    def export(self, name: str, *words: str, patient: str = "p-dana", **settings: str) -> Any:
        """Make a package of the last days."""
        today = datetime.now(UTC)
        since, until = (f"{today + timedelta(days=days):%Y-%m-%d}" for days in (-2, 3))
        return run_cli(
            self.folder, "evidence", "export", "--patient", patient, "--from", since, "--to", until, "-o",
            str(self.folder / name), *words, database_url=f"sqlite:///{self.folder / 'ruqsat.db'}",
            **{"journal_dir": str(self.folder / "journal")} | settings,
        )  # fmt: skip

    def verify(self, name: str, *words: str) -> Any:
        """Verify a package in an empty folder, with no setting at all."""
        alone = self.folder / "alone"
        alone.mkdir(exist_ok=True)
        return run_cli(alone, "evidence", "verify", str(self.folder / name), *words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A process in which a patient asked, demanded, had a record destroyed; a court and a secret body asked too."""
    folder = tmp_path_factory.mktemp("evidence")
    for name in ("journal", "other-journal"):
        key = make_signing_key(folder / f"{name}.pem", NAME)
        (folder / f"{name}.key").write_text(str(key.verifier))
    for api in serving(folder, journal_key_file=str(folder / "journal.pem"), journal_name=NAME):
        begin(api, "reg_saltanat", ASKED)
        begin(api, "reg_saltanat", ASKED | {"patient": "p-marat"})
        row = begin(api, "dana", DEMANDED | RECORD)
        row = step(api, "dpo_assel", row, "block")
        row = step(api, "dpo_assel", row, "confirm", ground="term_over", reasons="CANARY")
        assert step(api, "dpo_aigerim", row, "destroy", method="overwritten").is_success
        api.name("g-new")
        court = api.write("request")
        secret = api.write("request", whole("request") | {
            "authority": whole("request")["authority"] | {"kind": "special_state_body"}, "paragraph": "273(4)(9)",
            "case_no": None, "deferred_notice": None,
        })  # fmt: skip
        assert secret.json()["status"] == "received", secret.text
        api.act("rec_marzhan", "request", court.json()["id"], "verify", CHECK, **etag(court))
        folder.joinpath("secret").write_text(secret.json()["id"])
    yield Made(folder)


def lines(files: dict[str, bytes], name: str) -> list[dict[str, Any]]:
    """Return the objects of a file."""
    return [json.loads(line) for line in files[name].splitlines()]


@pytest.mark.slow
def test_a_package_holds_what_was_done_with_one_persons_data(made: Made) -> None:
    """Consents, records, proceedings, journal lines of that person and of nobody else; no name unless it is asked for."""
    done = made.export("plain.zip")
    assert done.returncode == 0, done.stderr
    files = read_archive(made.folder / "plain.zip")
    assert {each["patient"] for each in lines(files, "consents.jsonl")} == {"p-dana"}
    assert {each["kind"] for each in lines(files, "proceedings.jsonl")} == {"information", "destruction"}
    (act,) = [each["act"] for each in lines(files, "proceedings.jsonl") if "act" in each]
    assert act["destroyed_by"] == "dpo_aigerim"
    entries = [lifted(line) for line in files["journal/entries.jsonl"].splitlines()]
    assert {each.get("patient") for each in entries} == {"p-dana", None}
    assert all(each["kind"] == "policy" for each in entries if "patient" not in each)
    assert any(each.get("action") == "delete" for each in entries)
    told = lines(files, "notices.jsonl")
    assert {each["patient"] for each in told} == {"p-dana"}
    assert {"proceeding.block", "proceeding.destroy"} <= {each["kind"] for each in told}
    assert not any(trace in text for text in files.values() for trace in (b"CANARY", b"880808100", b"p-marat"))

    shown = made.export("personal.zip", "--personal", record_key=KEY)
    assert shown.returncode == 0, shown.stderr
    opened = read_archive(made.folder / "personal.zip")
    assert b"CANARY-statement" in opened["proceedings.jsonl"] and b"CANARY-surname" in opened["consents.jsonl"]
    for name in ("plain.zip", "personal.zip"):
        assert made.verify(name).returncode == 0
    assert made.export("no-key.zip", "--personal").returncode == 2
    again = made.export("plain.zip")
    assert (again.returncode, "cannot be written" in again.stderr) == (2, True)


def test_a_package_about_nobody_says_so_and_days_the_wrong_way_round_make_none(made: Made) -> None:
    """An id or days that were mistyped are no proof that nothing was done."""
    word = "nothing about this patient"
    assert word in made.export("nobody.zip", patient="p-dania").stdout and word not in made.export("some.zip").stdout
    for since, until in (("2026-12-01", "2026-11-01"), ("2026-12-01", "2026-12-01")):
        done = run_cli(
            made.folder, "evidence", "export", "--patient", "p-dana", "--from", since, "--to", until, "-o",
            str(made.folder / "reversed.zip"), database_url=f"sqlite:///{made.folder / 'ruqsat.db'}",
            journal_dir=str(made.folder / "journal"),
        )  # fmt: skip
        assert (done.returncode, (made.folder / "reversed.zip").exists()) == (2, False)


def test_the_lines_of_the_journal_are_proved_to_be_those_that_were_signed(made: Made) -> None:
    """By the journal's key all of them; by another none; a line written anew, or a proof of another line, is a fault."""
    made.export("proved.zip")
    good = made.verify("proved.zip", "--journal-key", str(made.folder / "journal.key"))
    bad = made.verify("proved.zip", "--journal-key", str(made.folder / "other-journal.key"))
    files = read_archive(made.folder / "proved.zip")
    held = len(lines(files, ENTRIES))
    assert held > 5
    assert f"{held} of {held} lines of the journal proved, by the keys that were named" in good.stdout, good.stdout
    assert (good.returncode, bad.returncode) == (0, 1)
    assert "signatures were not looked at" in made.verify("proved.zip").stdout
    assert not any(b'"kind":"facts"' in line for line in files[ENTRIES].splitlines())

    about = {name: value for name, value in json.loads(files[MANIFEST]).items() if name not in ("files", "format")}
    rewritten = []
    for line in files[ENTRIES].splitlines(keepends=True):
        entry = json.loads(line)
        prev, number, parts = entry["prev"], entry["n"], entry.pop("personal", [])
        for name in ("hash", "prev", "n", "sealed"):
            entry.pop(name, None)
        told = json.dumps(entry, separators=(",", ":")).replace("allow.", "allow!").encode()
        parts = [json.dumps(part, separators=(",", ":")).encode() for part in parts]
        rewritten.append(build_line(prev.encode(), number, told, parts)[0])
    moved = files[INCLUSION].replace(b'"line":1,', b'"line":2,', 1)
    for name, text in ((ENTRIES, b"".join(rewritten)), (INCLUSION, moved), (INCLUSION, b"{")):
        changed = {key: value for key, value in files.items() if key != MANIFEST} | {name: text}
        found = list(faults(changed | {MANIFEST: manifest_of(changed, about)}, None))
        assert found, name
        assert all(INCLUSION in each for each in found)


def test_a_line_that_nobody_signed_is_a_fault_where_a_key_is_named(made: Made) -> None:
    """Without its proofs a package shows nothing by the journal's key; one that holds no line has none to prove."""
    made.export("bare.zip")
    files = read_archive(made.folder / "bare.zip")
    about = {name: value for name, value in json.loads(files[MANIFEST]).items() if name not in ("files", "format")}
    key = VerifierKey.read((made.folder / "journal.key").read_text().strip())
    kept = {name: text for name, text in files.items() if name not in (MANIFEST, INCLUSION)}
    bare = kept | {MANIFEST: manifest_of(kept, about)}
    held = len(lines(files, ENTRIES))

    assert list(faults(bare, None)) == []
    assert list(faults(bare, None, (key,))) == [
        f"`{INCLUSION}` proves 0 of {held} lines: nobody whose key was named signed the others"
    ]
    empty = {name: text for name, text in kept.items() if name != ENTRIES}
    assert list(faults(empty | {MANIFEST: manifest_of(empty, about)}, None, (key,))) == []


def test_entries_of_a_journal_that_was_not_named_are_told_of(made: Made, tmp_path: Path) -> None:
    """Of the sidecar whose folder is not among them the package has nothing: it says so, and not where all are named."""
    word = "are in none of these journals"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    at = parse_instant(f"{datetime.now(UTC):%Y-%m-%d}T00:00:00Z")
    header, end = build_line(NO_HASH, 0, msgspec.json.encode(SegmentHeader(segment=1, writer="another")))
    about = {"kind": "decision", "id": "d-else", "at": render_instant(at), "allowed": False}
    line, _ = build_line(end, 1, msgspec.json.encode(about), [b'{"salt":"00","patient":"p-dana"}'])
    (elsewhere / "segment-00000001.jsonl").write_bytes(header + line)

    one, other = str(made.folder / "journal"), str(elsewhere)
    assert word not in made.export("named.zip", "--journal-dir", one, "--journal-dir", other).stdout
    partly = made.export("partly.zip", journal_dir=other)
    assert (partly.returncode, word in partly.stdout.replace("\n", " ")) == (0, True)
    assert word not in made.export("nobodys.zip", patient="p-nobody", journal_dir=other).stdout


def test_a_line_stands_in_a_package_once(made: Made) -> None:
    """One access is no two, by whichever proof; a folder that is named twice is read once."""
    folder = str(made.folder / "journal")
    assert made.export("once.zip", "--journal-dir", folder, "--journal-dir", f"{folder}/../journal").returncode == 0
    assert made.verify("once.zip").returncode == 0
    files = read_archive(made.folder / "once.zip")
    about = {name: value for name, value in json.loads(files[MANIFEST]).items() if name not in ("files", "format")}
    first = files[ENTRIES].splitlines(keepends=True)[0]
    held = len(lines(files, ENTRIES))
    inclusion = json.loads(files[INCLUSION])
    proof = next(each for each in inclusion["proofs"] if each["line"] == 1)
    inclusion["proofs"].append(proof | {"line": held + 1})
    twice = {name: text for name, text in files.items() if name != MANIFEST} | {
        ENTRIES: files[ENTRIES] + first, INCLUSION: json.dumps(inclusion).encode(),
    }  # fmt: skip
    key = VerifierKey.read((made.folder / "journal.key").read_text().strip())

    assert list(faults(twice | {MANIFEST: manifest_of(twice, about)}, None, (key,))) == [
        f"`{ENTRIES}`, line {held + 1}: it stands here before, and was written once"
    ]


def test_no_package_is_made_of_a_journal_that_is_not_whole(made: Made, tmp_path: Path) -> None:
    """Nor of a folder that holds none, as that above the folders of several workers: it would tell that nothing was."""
    whole, broken = made.folder / "journal", tmp_path / "broken"
    shutil.copytree(whole, broken)
    segment = list_segments(broken)[0].path
    segment.write_bytes(b"".join(line for at, line in enumerate(segment.read_bytes().splitlines(True)) if at != 2))

    for folder, word in (
        (broken, "00000001.jsonl"),
        (tmp_path, "name the folder of each sidecar"),
        (broken / "x", "no"),
    ):
        done = made.export("none.zip", journal_dir=str(folder))
        assert (done.returncode, (made.folder / "none.zip").exists()) == (2, False), done.stdout
        assert word in done.stderr.replace("\n", " ")


def test_what_must_not_be_handed_on_is_left_out_and_counted(made: Made) -> None:
    """The request of a special state body, and every line of the journal that speaks of it."""
    made.export("left.zip")
    files = read_archive(made.folder / "left.zip")
    secret = made.folder.joinpath("secret").read_bytes()
    assert not any(secret in text or b"special_state_body" in text for text in files.values())
    assert b"court" in files["records.jsonl"]
    manifest = read_manifest(files[MANIFEST])
    assert manifest is not None and manifest.left_out >= 1


def test_of_what_is_left_out_no_notice_is_handed_on_either() -> None:
    """Neither that the patient was not told, nor that a person had to approve; of what is told, who was and who was not."""
    entries = [written(1), written(2, basis="kz273_4_9", purpose="HLEGAL", duties=["human_approval"])]
    read = [entry for line in entries if (entry := read_line(line)) is not None]
    other = Notice("k", "d-9", "use", "patient", "p-anna", None, "h1", {}, NOW)
    told = [*(notice for entry in read for notice in make(entry, {})), other]
    rows = [
        Listed(
            each.key, "pending", each.kind, each.audience, each.patient, each.recipient, each.org, each.entry, None,
            each.skipped, each.ground, each.due, each.deferred_until, 0, each.due, each.due, None,
        )
        for each in told
    ]  # fmt: skip
    extent = Extent("p-anna", parse_instant("2026-11-01T00:00:00Z"), parse_instant("2026-12-01T00:00:00Z"))
    found = Found((), (), (), {}, (), tuple(rows))
    files = build_package(found, entries, extent, Hour(NOW, WorkingDays(), 5), None)

    assert len(rows) == 4
    assert [(each["entry"], each["audience"], each["due"]) for each in lines(files, "notices.jsonl")] == [
        ("d-1", "patient", AT)
    ]


def test_a_signed_package_is_known_by_its_key(made: Made) -> None:
    """By the named key it holds; by another it does not; unsigned it is no proof where a key is named."""
    assert made.export("signed.zip", "--sign-key", str(made.folder / "key.pem")).returncode == 0
    assert made.export("loose.zip").returncode == 0
    good = made.verify("signed.zip", "--key", str(made.folder / "key.pub"))
    assert (good.returncode, "signed by the key that was named" in good.stdout) == (0, True)
    assert made.verify("signed.zip").returncode == 0
    for name, key, says in (
        ("signed.zip", "other.pub", "signed by another key"), ("loose.zip", "key.pub", "not signed"),
    ):  # fmt: skip
        bad = made.verify(name, "--key", str(made.folder / key))
        assert (bad.returncode, says in bad.stdout) == (1, True), bad.stdout
    assert made.export("x.zip", "--sign-key", str(made.folder / "key.pub")).returncode == 2
    assert made.verify("signed.zip", "--key", str(made.folder / "key.pem")).returncode == 2
    assert not (made.folder / "x.zip").exists()


def test_an_altered_package_is_told_from_one_as_it_was_made(made: Made) -> None:
    """A bit anywhere, a file taken away, put in or renamed: each is a fault, with and without the signature."""
    made.export("whole.zip", "--sign-key", str(made.folder / "key.pem"))
    files, trusted = read_archive(made.folder / "whole.zip"), (made.folder / "key.pub").read_bytes()
    assert list(faults(files, trusted)) == []
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for name, text in files.items():
        if not text:
            continue
        for _ in range(20):
            at = chance.randrange(len(text))
            spoilt = text[:at] + bytes([text[at] ^ (1 << chance.randrange(8))]) + text[at + 1 :]
            if name == SIGNATURE and _same_signature(text, spoilt):
                continue
            assert list(faults(files | {name: spoilt}, trusted)), (name, at)
        assert list(faults({key: value for key, value in files.items() if key != name}, trusted)), name
    assert list(faults(files | {"more.jsonl": b"{}\n"}, trusted))


def _same_signature(one: bytes, other: bytes) -> bool:
    """Tell whether a flipped bit left the meaning alone: the last sign of base64 has bits that say nothing."""
    try:
        a, b = (json.loads(each) for each in (one, other))
        return (
            a.keys() == b.keys()
            and all(base64.b64decode(a[name]) == base64.b64decode(b[name]) for name in ("public_key", "signature"))
            and a["algorithm"] == b["algorithm"]
        )
    except (ValueError, KeyError):
        return False


def test_whoever_makes_the_manifest_anew_is_found_by_the_hashes_within(made: Made) -> None:
    """A line of the journal, or an act of destruction, changed under a new manifest: told without any signature."""
    made.export("anew.zip")
    files = read_archive(made.folder / "anew.zip")
    about = json.loads(files[MANIFEST])
    about = {name: value for name, value in about.items() if name not in ("files", "format")}

    def anew(name: str, text: bytes) -> list[str]:
        changed = {key: value for key, value in files.items() if key != MANIFEST} | {name: text}
        return list(faults(changed | {MANIFEST: manifest_of(changed, about)}, None))

    entries, proceedings = "journal/entries.jsonl", "proceedings.jsonl"
    assert anew(entries, files[entries]) == []
    assert (
        "the line and its hash disagree" in anew(entries, files[entries].replace(b'"dpo_aigerim"', b'"dpo_another"'))[0]
    )
    assert (
        "the act of destruction was altered"
        in anew(proceedings, files[proceedings].replace(b"overwritten", b"overwrittes"))[0]
    )
    assert "cannot be read" in anew(proceedings, b"{")[0]


def test_a_package_cannot_be_read_by_other_users_of_the_machine(tmp_path: Path) -> None:
    """It holds a person's records opened: only who made it may read it, whatever the umask."""
    before = os.umask(0)
    try:
        write_archive(tmp_path / "one.zip", {"a": b"1"})
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "one.zip").stat().st_mode) == 0o600
    assert read_archive(tmp_path / "one.zip") == {"a": b"1"}
    with pytest.raises(SettingsError, match="cannot be written"):
        write_archive(tmp_path / "one.zip", {"a": b"2"})


def test_what_is_no_package_is_refused_with_one_line(made: Made, tmp_path: Path) -> None:
    """No archive, a name twice, none of our files: exit 2 or 1, never a traceback."""
    (tmp_path / "no.zip").write_bytes(b"no archive")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    write_archive(tmp_path / "bent.zip", {"a": bytes(range(256)) * 9})
    bent = bytearray((tmp_path / "bent.zip").read_bytes())
    bent[31:35] = b"\xff\xff\xff\xff"  # the first bytes that are compressed
    (tmp_path / "bent.zip").write_bytes(bent)
    write_archive(tmp_path / "strange.zip", {"a": b"1", SIGNATURE: b"3"})
    for name, code in (("no.zip", 2), ("twice.zip", 2), ("bent.zip", 2), ("strange.zip", 1), ("nowhere.zip", 2)):
        done = made.verify(str(tmp_path / name))
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), (name, done.stderr)
    assert msgspec.json.decode(b"{}") == {}
