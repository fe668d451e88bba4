"""What may become the policy in force: only a whole pack that passed every examination."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ruqsat.casbin.comparison import compare
from ruqsat.casbin.examiner import examine
from ruqsat.casbin.oracle import Oracle
from ruqsat.core.admission import Changes, build_pack, changes_between, changes_of
from ruqsat.core.cases import read_world
from ruqsat.core.evaluate import evaluate
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import situations
from ruqsat.core.verdict import Verdict
from ruqsat.core.world import World
from ruqsat.errors import PolicyError
from ruqsat.service.administration_point import AdministrationPoint, InForce
from ruqsat.stores.pack_file import read_pack_file, write_pack_file
from ruqsat.stores.policy_examiner import examine_in_child
from ruqsat.stores.policy_folder import FolderBusyError, load_texts
from ruqsat.stores.policy_sources import LastGood
from tests.admission.released import Examiner, until

RULE = b"p, 1300, consent-01, care_staff, read search,"
NARROWER = b"p, 1300, consent-01, care_staff, read,"


class Source:
    """A pack that a test exchanges."""

    name = "folder"
    release = None

    def __init__(self, texts: dict[str, bytes]) -> None:
        self.texts: dict[str, bytes] | PolicyError = texts
        self.looks = 0
        self.befallen: Exception | None = None

    async def state(self) -> object:
        """Return the pack itself, or fail once."""
        self.looks += 1
        if self.befallen is not None:
            befallen, self.befallen = self.befallen, None
            raise befallen
        return str(self.texts)

    async def read(self) -> dict[str, bytes]:
        """Return the pack, or fail."""
        if isinstance(self.texts, PolicyError):
            raise self.texts
        return self.texts


async def quickly(texts: Mapping[str, bytes]) -> Verdict:
    """Examine here, on a small budget."""
    return examine(texts, 1.0, 7)


async def longer(texts: Mapping[str, bytes]) -> Verdict:
    """Examine here, long enough for some comparisons on a busy machine."""
    return examine(texts, 3.0, 7)


def narrower(texts: dict[str, bytes]) -> dict[str, bytes]:
    """The pack with one rule narrowed."""
    changed = texts["policies/consent.csv"].replace(RULE, NARROWER)
    assert changed != texts["policies/consent.csv"]
    return texts | {"policies/consent.csv": changed}


def spoilt(texts: dict[str, bytes]) -> dict[str, bytes]:
    """The pack with a misspelt effect."""
    return texts | {"policies/consent.csv": texts["policies/consent.csv"].replace(b" allow,", b" Allow,")}


def opened(source: Source, folder: Path, examine: Any = quickly) -> tuple[AdministrationPoint, list[InForce]]:
    """An administration point with its first policy, and what it put in force later."""
    point, adopted = AdministrationPoint(source, LastGood(folder), examine), []
    point.adopt = lambda found, _changes: adopted.append(found)
    asyncio.run(point.open())
    return point, adopted


@pytest.mark.slow
def test_a_better_pack_is_put_in_force_and_says_what_changed(pack_texts: dict[str, bytes], tmp_path: Path) -> None:
    """The new set is handed over whole, with the rules that differ and the number of answers compared."""
    without = {name: text for name, text in pack_texts.items() if name != "policies/consent.test.toml"}
    source = Source(without)
    point, _ = opened(source, tmp_path, longer)
    told: list[tuple[str, Changes]] = []
    point.adopt = lambda found, changes: told.append((found.pack.policy_set.digest, changes))
    source.texts = narrower(without)

    assert asyncio.run(point.reload())

    assert told == [(point.in_force.pack.policy_set.digest, Changes(changed=("consent-01",)))]
    assert point.in_force.compared > 10
    assert point.status()["policy_refused"] == []


def test_a_pack_that_is_refused_changes_nothing_and_says_why(pack_texts: dict[str, bytes], tmp_path: Path) -> None:
    """The set in force stays the very object; the reason names file and line; a mended pack clears it."""
    source = Source(pack_texts)
    point, adopted = opened(source, tmp_path)
    before = point.in_force
    source.texts = spoilt(pack_texts)

    assert not asyncio.run(point.reload())

    assert point.in_force is before
    assert adopted == []
    assert "policies/consent.csv:9" in point.refused[0]
    source.texts = pack_texts
    asyncio.run(point.reload())
    assert point.refused == ()


class Passing(Examiner):
    """An examination that something passing befalls, once it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.next: Verdict | Exception | None = None

    async def __call__(self, texts: Mapping[str, bytes]) -> Verdict:
        """Judge a pack, or be befallen."""
        said, befallen, self.next = await super().__call__(texts), self.next, None
        if isinstance(befallen, Exception):
            raise befallen
        return said if befallen is None else befallen


class Full(LastGood):
    """A last good pack on a disk that is full, once."""

    is_full = False

    async def keep(self, texts: dict[str, bytes]) -> None:
        """Keep a pack, or fail."""
        if self.is_full:
            self.is_full = False
            raise PolicyError("`last-good.pack` cannot be written: No space left on device")
        await super().keep(texts)


PASSING: dict[str, Verdict | Exception | None] = {
    "the examination is killed": Verdict(failure="the examination died (exit status -9)"),
    "so busy that nothing was compared": Verdict("d"),
    "something that nobody thought of": BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    "a full disk": None,
}


@asynccontextmanager
async def watched(point: AdministrationPoint) -> AsyncIterator[None]:
    """Look at the source again and again meanwhile."""
    watching = asyncio.create_task(point.watch_forever(0.002))
    try:
        yield
        assert not watching.done()
    finally:
        watching.cancel()


def told(caplog: pytest.LogCaptureFixture) -> int:
    """How often the log says that a pack is refused."""
    return caplog.text.count("policy_refused")


def befall(examine: Passing, good: Full, what: str) -> None:
    """Let it happen the next time."""
    examine.next, good.is_full = PASSING[what], PASSING[what] is None


@pytest.mark.parametrize("what", PASSING)
def test_a_good_pack_is_tried_again_after_something_passing(
    pack_texts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:  # fmt: skip
    """Nobody edits anything or sends a signal: it is told that it is not in force, and after a while it is."""
    monkeypatch.setattr("ruqsat.service.administration_point.AGAIN_SECONDS", 0.2)

    async def story() -> None:
        source, examine, good = Source(pack_texts), Passing(), Full(tmp_path)
        point = AdministrationPoint(source, good, examine)
        await point.open()
        befall(examine, good, what)
        async with watched(point):
            source.texts = narrower(pack_texts)
            await until(lambda: bool(point.refused))
            assert point.in_force.texts == pack_texts
            await until(lambda: point.in_force.texts == source.texts)
        assert (point.refused, told(caplog), len(examine.asked)) == ((), 1, 3)

    asyncio.run(story())


@pytest.mark.parametrize("what", [each for each in PASSING if not isinstance(PASSING[each], Exception)])
def test_a_start_that_something_passing_befell_does_not_stay_with_the_last_good_pack(
    pack_texts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """It begins with what was admitted before, says so, and goes on to the pack of its source by itself."""
    monkeypatch.setattr("ruqsat.service.administration_point.AGAIN_SECONDS", 0.2)

    async def story() -> None:
        source, examine, good = Source(narrower(pack_texts)), Passing(), Full(tmp_path)
        await good.keep(pack_texts)
        befall(examine, good, what)
        point = AdministrationPoint(source, good, examine)
        assert (await point.open()).origin == "last-good" and point.refused
        async with watched(point):
            await until(lambda: point.in_force.texts == source.texts)
        assert point.refused == ()

    asyncio.run(story())


def test_a_pack_is_examined_again_no_sooner_than_that_and_one_that_was_judged_not_at_all(
    pack_texts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An examination is dear: looks that find nothing new ask for none, however many they are."""

    async def looks(point: AdministrationPoint, source: Source) -> None:
        seen = source.looks
        async with watched(point):
            await until(lambda: source.looks > seen + 30)

    async def story() -> None:
        source, examine, good = Source(pack_texts), Passing(), Full(tmp_path)
        point = AdministrationPoint(source, good, examine)
        await point.open()
        source.texts, examine.next = narrower(pack_texts), PASSING["the examination is killed"]
        await looks(point, source)
        assert (len(examine.asked), told(caplog)) == (2, 1)

        monkeypatch.setattr("ruqsat.service.administration_point.AGAIN_SECONDS", 0.0)
        source.texts, examine.next = spoilt(pack_texts), await quickly(spoilt(pack_texts))
        await looks(point, source)
        assert (len(examine.asked), told(caplog)) == (3, 2)

    asyncio.run(story())


def test_a_watch_outlives_whatever_befalls_a_look(
    pack_texts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that cannot be looked at once is told of and looked at again; what was told ends with it."""
    monkeypatch.setattr("ruqsat.service.administration_point.AGAIN_SECONDS", 0.05)

    async def story() -> None:
        source = Source(pack_texts)
        point = AdministrationPoint(source, LastGood(tmp_path), Examiner())
        await point.open()
        async with watched(point):
            source.befallen = RuntimeError("can't start new thread")
            await until(lambda: point.refused == ("failed: RuntimeError",))
            await until(lambda: point.refused == ())
            source.texts = narrower(pack_texts)
            await until(lambda: point.in_force.texts == source.texts)

    asyncio.run(story())


@pytest.mark.slow
def test_a_case_that_is_not_as_promised_refuses_the_pack(pack_texts: dict[str, bytes], tmp_path: Path) -> None:
    """Rules that load but break a promise of their own cases do not come in force."""
    name = "policies/consent.test.toml"
    broken = pack_texts[name].replace(b'because = "consent-01"', b'because = "consent-02"', 1)
    source = Source(pack_texts)
    point, adopted = opened(source, tmp_path)
    source.texts = pack_texts | {name: broken}

    assert not asyncio.run(point.reload())
    assert adopted == []
    assert "expected it by" in point.refused[0]


@pytest.mark.slow
def test_a_difference_from_stock_pycasbin_refuses_the_pack(
    pack_texts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: the compiled set forgets one rule; the comparison sees it, and the verdict says which question."""
    original = PolicySet._can_match
    monkeypatch.setattr(
        PolicySet, "_can_match", lambda self, rule, case: rule.id != "consent-01" and original(self, rule, case)
    )
    monkeypatch.setattr("ruqsat.casbin.examiner.try_cases", lambda *_: (0, []))

    verdict = examine(pack_texts, 5.0, 7)

    assert not verdict.admitted
    assert "stock pycasbin differs: question" in verdict.reasons()[0]


@pytest.mark.slow
@pytest.mark.parametrize("matcher", ["m2", "m3", "m4", "m5"])
def test_a_difference_in_what_a_row_covers_is_seen(matcher: str, pack_texts: dict[str, bytes]) -> None:
    """Planted: a set whose consents, delegations, sessions or role matrix lack a criterion that pycasbin reads."""
    policy_set, _ = load_pack(pack_texts)
    more = f"{matcher} = is_known(r{matcher[1:]}.ctx, 'no such thing') && "
    model = pack_texts["model.conf"].replace(f"{matcher} = ".encode(), more.encode(), 1)

    compared = compare(pack_texts | {"model.conf": model}, policy_set, 7, 60.0, lambda: 0.0)

    assert compared.differences
    assert all(f"a row of p{matcher[1:]} covers" in each for each in compared.differences)


def test_a_pack_of_which_nothing_could_be_compared_is_refused(pack_texts: dict[str, bytes]) -> None:
    """No time, no comparison, no admission."""
    verdict = examine(pack_texts, 0.0, 7)

    assert verdict.compared == 0
    assert verdict.findings == ()
    assert not verdict.admitted


def test_what_a_comparison_is_made_with_is_not_of_its_time(
    pack_texts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine it takes longer to make engine and cases ready than to ask them: the budget is for asking."""
    passed = [0.0]

    def slow(texts: Mapping[str, bytes], policy_set: PolicySet) -> Oracle:
        passed[0] += 60.0
        return Oracle(texts, policy_set)

    def slowly_read(texts: Mapping[str, bytes], file: str) -> World:
        passed[0] += 60.0
        return read_world(texts, file)

    monkeypatch.setattr("ruqsat.casbin.comparison.Oracle", slow)
    monkeypatch.setattr("ruqsat.casbin.comparison.read_world", slowly_read)
    policy_set, _ = load_pack(pack_texts)

    assert compare(pack_texts, policy_set, 7, 10.0, lambda: passed[0]).compared > 200


@pytest.mark.slow
def test_the_examination_runs_in_a_process_of_its_own(pack_texts: dict[str, bytes]) -> None:
    """The child admits the shipped pack, tells how many answers it compared, and refuses a spoilt one with the place."""
    good = asyncio.run(examine_in_child(pack_texts, 60.0, 7))
    bad = asyncio.run(examine_in_child(spoilt(pack_texts), 60.0, 7))

    assert (good.admitted, good.cases > 50, good.compared > 200) == (True, True, True)
    assert not bad.admitted
    assert bad.reasons()[0].startswith("policies/consent.csv:9")


async def gone(_child: object, _given: bytes) -> tuple[bytes, bytes]:
    """Say what uvloop says of a child that is dead before anything was written to it."""
    raise RuntimeError("the handler is closed")


def test_an_examination_that_dies_or_never_ends_admits_nothing(
    pack_texts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed by its memory limit, or by the deadline, or never begun: no verdict is a refusal with its reason."""
    monkeypatch.setattr("ruqsat.stores.policy_examiner.GRACE_SECONDS", -9.9)
    late = asyncio.run(examine_in_child(pack_texts, 10.0, 7))
    monkeypatch.setattr("ruqsat.stores.policy_examiner.GRACE_SECONDS", 60.0)
    monkeypatch.setattr("ruqsat.stores.policy_examiner._environment", lambda: {"PYTHONHOME": "/nowhere"})
    dead = asyncio.run(examine_in_child(pack_texts, 10.0, 7))
    monkeypatch.setattr("ruqsat.stores.policy_examiner.sys.executable", "/nowhere")
    unborn = asyncio.run(examine_in_child(pack_texts, 10.0, 7))
    monkeypatch.undo()
    monkeypatch.setattr("asyncio.subprocess.Process.communicate", gone)
    dead_at_once = asyncio.run(examine_in_child(pack_texts, 10.0, 7))

    assert not any(each.admitted or each.is_final for each in (late, dead, unborn, dead_at_once))
    assert "longer than" in late.failure
    assert "died" in dead.failure and "died" in dead_at_once.failure
    assert "could not be started: No such file" in unborn.failure


@pytest.mark.slow
def test_the_sample_is_the_same_for_a_seed_and_reaches_permits_too(policy_set: PolicySet) -> None:
    """A difference can be repeated from its seed; and a sample of denials alone would prove little."""
    first, again = (list(islice(situations(policy_set, 5), 2000)) for _ in range(2))
    everything = frozenset({"require_eds", "audit", "provenance", "redact"})
    reasons = {evaluate(policy_set, *each, everything).reason for each in first}

    assert first == again
    assert any(reason.startswith("allow.") for reason in reasons)
    assert len(reasons) > 20


@pytest.mark.slow
def test_the_last_good_pack_serves_when_the_source_is_spoilt(pack_texts: dict[str, bytes], tmp_path: Path) -> None:
    """A start on a spoilt pack falls back to what was admitted before, and says so; without one it does not start."""
    opened(Source(pack_texts), tmp_path)

    point, _ = opened(Source(spoilt(pack_texts)), tmp_path)

    assert point.status()["policy_origin"] == "last-good"
    assert "policies/consent.csv:9" in point.refused[0]
    with pytest.raises(PolicyError, match="unknown-effect"):
        opened(Source(spoilt(pack_texts)), tmp_path / "empty")


@pytest.mark.slow
def test_a_last_good_pack_that_was_altered_serves_nobody(pack_texts: dict[str, bytes], tmp_path: Path) -> None:
    """One flipped bit anywhere in the file, and it is not used."""
    opened(Source(pack_texts), tmp_path)
    path = tmp_path / "last-good.pack"
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(PolicyError):
            opened(Source(spoilt(pack_texts)), tmp_path)


@pytest.mark.slow
def test_what_was_admitted_by_this_version_is_not_examined_again(pack_texts: dict[str, bytes], tmp_path: Path) -> None:
    """A restart on the same bytes begins at once; other bytes, or another version's admission, are examined."""
    asked: list[int] = []

    async def counting(texts: Mapping[str, bytes]) -> Verdict:
        asked.append(len(texts))
        return await quickly(texts)

    opened(Source(pack_texts), tmp_path, counting)
    opened(Source(pack_texts), tmp_path, counting)
    assert len(asked) == 1
    path = tmp_path / "last-good.pack"
    path.write_bytes(path.read_bytes().replace(b'"version":"', b'"version":"0', 1))
    opened(Source(pack_texts), tmp_path, counting)
    assert len(asked) == 2


def test_what_a_spreadsheet_locks_a_file_with_is_no_rule_file_and_another_name_is(
    tmp_path: Path, pack_texts: dict[str, bytes]
) -> None:
    """`~$consent.csv` and `._consent.csv` are nobody's rules; `consent.CSV` and `new.csv.txt` are read, to be refused."""
    write_folder(tmp_path, pack_texts)
    for name in ("~$consent.csv", "._consent.csv", "notes.md"):
        (tmp_path / "policies" / name).write_bytes(b"\0")
    assert load_texts(tmp_path) == pack_texts

    for name in ("consent.CSV", "new.csv.txt"):
        (tmp_path / "policies" / name).write_bytes(b"\0")
    assert load_texts(tmp_path).keys() - pack_texts.keys() == {"policies/consent.CSV", "policies/new.csv.txt"}


def test_a_folder_that_changes_while_it_is_read_is_not_read(
    pack_texts: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reading is of one state; while git holds its lock nothing is read at all."""
    write_folder(tmp_path, pack_texts)
    assert load_texts(tmp_path) == pack_texts
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index.lock").touch()
    with pytest.raises(FolderBusyError):
        load_texts(tmp_path)
    (tmp_path / ".git" / "index.lock").unlink()
    numbers = iter(range(1000))

    def touched(path: Path) -> bytes:
        (tmp_path / "policies" / "consent.csv").write_bytes(b"#" * next(numbers))
        return b""

    monkeypatch.setattr("ruqsat.stores.policy_folder._read", touched)
    with pytest.raises(FolderBusyError):
        load_texts(tmp_path)


def test_a_swapped_link_never_yields_a_mixture(pack_texts: dict[str, bytes], tmp_path: Path) -> None:
    """A ConfigMap's `..data` link turns from one pack to the other 300 times: each reading is one pack or refused."""
    packs = [pack_texts, {name: data + b"\n# second\n" for name, data in pack_texts.items()}]
    for number, texts in enumerate(packs):
        write_folder(tmp_path / f"..{number}", texts)
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "model.conf").symlink_to("..data/model.conf")
    (mount / "policies").symlink_to("..data/policies")
    (mount / "..data").symlink_to(tmp_path / "..0")
    done = threading.Event()

    def swap() -> None:
        for turn in range(300):
            beside = mount / "..data_tmp"
            beside.symlink_to(tmp_path / f"..{turn % 2}")
            beside.rename(mount / "..data")
        done.set()

    swapping = threading.Thread(target=swap)
    swapping.start()
    read = 0
    while not done.is_set() or read == 0:
        try:
            assert load_texts(mount) in packs
            read += 1
        except FolderBusyError:
            continue
    swapping.join()


def write_folder(folder: Path, texts: dict[str, bytes]) -> None:
    """Write a pack as a folder."""
    for name, data in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_a_pack_file_gives_back_what_was_written(pack_texts: dict[str, bytes], tmp_path: Path) -> None:
    """Every file of the pack, byte for byte; a file cut anywhere is refused."""
    path = tmp_path / "one.pack"
    write_pack_file(path, pack_texts)
    assert read_pack_file(path)[1] == pack_texts
    whole = path.read_bytes()
    for place in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place])
        with pytest.raises(PolicyError):
            read_pack_file(path)


def test_changes_name_the_rules_that_differ(pack_texts: dict[str, bytes]) -> None:
    """Added, removed and rewritten rules, by id; the same set has none."""
    old, _ = build_pack(pack_texts)
    lines = pack_texts["policies/consent.csv"].replace(RULE, NARROWER).replace(b"consent-12,", b"consent-42,")
    new, findings = build_pack(pack_texts | {"policies/consent.csv": lines})
    assert old is not None
    assert new is not None, findings

    assert changes_between(old.policy_set, old.policy_set) == Changes()
    assert changes_between(old.policy_set, new.policy_set) == Changes(("consent-42",), ("consent-12",), ("consent-01",))


@pytest.mark.parametrize(
    ("file", "was", "becomes", "told"),
    [
        ("policies/vocabulary.toml", "mfa                 = true", "mfa = false", ("switches.btg.mfa",)),
        ("policies/vocabulary.toml", "# ", "# A remark. ", ()),
        ("policies/hierarchies.csv", "g3, COC, TREAT", "# g3, COC, TREAT", ()),
        ("policies/role-matrix.csv", "p5, sysadmin", "# p5, sysadmin", ()),
        ("policies/routes.toml", "# ", "# A remark. ", ()),
        ("policies/consent.test.toml", "# ", "# A remark. ", ()),
        ("model.conf", "# ", "# A remark. ", ()),
    ],
)
def test_changes_tell_whatever_else_differs(
    pack_texts: dict[str, bytes], file: str, was: str, becomes: str, told: tuple[str, ...]
) -> None:
    """A switch by its name, and each file but those of the rules that are told; a file that is gone too."""
    changed = {
        file: pack_texts[file].replace(was.encode(), becomes.encode(), 1),
        "policies/consent.csv": pack_texts["policies/consent.csv"].replace(RULE, NARROWER),
    }
    old, (new, findings) = build_pack(pack_texts)[0], build_pack(pack_texts | changed)
    assert old is not None
    assert new is not None, findings
    before = pack_texts, old.policy_set

    assert changes_of(before, before) == Changes()
    assert changes_of(({}, None), before).besides == ()
    found = changes_of(before, (pack_texts | changed, new.policy_set))
    assert found == Changes(changed=("consent-01",), besides=(*told, file))
    gone = {name: text for name, text in pack_texts.items() if name != file}
    assert changes_of(before, (gone, old.policy_set)).besides == (file,)
