"""Look-ups at a FHIR server over HTTP: found, or nothing; bounded; kept no longer than is said."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ruqsat.core.fhir.meaning import Lookup
from ruqsat.core.fhir.records import MAX_RECORD_BYTES, Seen
from ruqsat.core.fhir.words import FhirWords
from ruqsat.errors import SettingsError, StoreUnavailableError
from ruqsat.service.metrics import Metrics
from ruqsat.service.record_lookup import OUTCOMES, WAITING, LookupCounts, LookupLimits, RecordLookup
from ruqsat.stores.fhir_server import HttpFhirServer, read_servers
from tests.fhir_ground import TOKEN, FhirServer, Reply, observation, running_fhir, servers_file
from tests.process.starter import NotStartedError, serving

O1 = Lookup("Observation", "o1")
SEEN = Seen("Observation", "o1", "p-dana", ("labs",))


@pytest.fixture
def server() -> Iterator[FhirServer]:
    """A server that has one record."""
    with running_fhir() as running:
        running.put(observation("o1"))
        yield running


class Ticking:
    """Seconds that go forward when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def looking(
    server: FhirServer, folder: Path, work: Callable[[RecordLookup, LookupCounts], Awaitable[Any]],
    limits: LookupLimits | None = None, clock: Ticking | None = None,
) -> Any:  # fmt: skip
    """Do some work with look-ups at the server, on a loop of its own; return what it returns."""
    limits, counts = limits or LookupLimits(seconds=10), LookupCounts()

    async def run() -> Any:
        entry = read_servers(servers_file(folder, server.url, f"seconds = {limits.seconds}"))["/fhir"]
        http = HttpFhirServer(entry)
        lookup = RecordLookup(http, entry.url, limits, counts, clock or Ticking())
        try:
            return await work(lookup, counts)
        finally:
            await lookup.aclose()
            await http.aclose()

    return asyncio.run(run())


def one(server: FhirServer, folder: Path, words: FhirWords, asked: Lookup = O1, seconds: float = 10) -> tuple[Any, str]:
    """Look one record up; return what was seen, or the error, and the outcome that was counted."""

    async def work(lookup: RecordLookup, counts: LookupCounts) -> tuple[Any, str]:
        try:
            seen: Any = (await lookup.find((asked,), words))[asked]
        except StoreUnavailableError as error:
            seen = error
        return seen, next(name for name, count in counts.outcomes.items() if count)

    found: tuple[Any, str] = looking(server, folder, work, LookupLimits(seconds=seconds))
    return found


def test_a_record_is_found(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """By its id, with our token, asking for what is needed and for nothing that was compressed or stored on the way."""
    assert one(server, tmp_path, fhir_words) == (SEEN, "found")

    path, headers = server.seen[0]
    assert path == "/fhir/Observation/o1?_elements=category%2Cid%2Cmeta%2Csubject"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert (headers["accept-encoding"], headers["cache-control"]) == ("identity", "no-cache")
    assert "cookie" not in headers


def test_a_version_is_found(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """A version of a record is looked up by its own address."""
    server.records["Observation/o1/_history/2"] = observation("o1", "p2", meta={"versionId": "2"})

    seen, _ = one(server, tmp_path, fhir_words, Lookup("Observation", "o1", version="2"))

    assert seen.patient == "p2"


WHOLE = json.dumps(observation("o1")).encode()
ANSWERS: dict[str, tuple[Reply, str]] = {
    "gone": ((410, {}, b""), "absent"),
    "not there": ((404, {}, b"x"), "absent"),
    "another record": ((200, {}, json.dumps(observation("o2")).encode()), "refused"),
    "of nobody": ((200, {}, b'{"resourceType":"Observation","id":"o1"}'), "refused"),
    "no JSON": ((200, {}, b"<a/>"), "refused"),
    "forbidden to us": ((403, {}, WHOLE), "failed"),
    "not authenticated": ((401, {}, WHOLE), "failed"),
    "moved": ((302, {"location": "/fhir/Observation/o2"}, WHOLE), "failed"),
    "moved for good": ((301, {"location": "http://127.0.0.1:1/"}, WHOLE), "failed"),
    "accepted": ((202, {}, WHOLE), "failed"),
    "partial": ((206, {}, WHOLE), "failed"),
    "an error": ((500, {}, WHOLE), "failed"),
    "too many": ((429, {}, WHOLE), "failed"),
    "another format": ((200, {"content-type": "application/fhir+xml"}, WHOLE), "failed"),
    "no format": ((200, {"content-type": ""}, WHOLE), "failed"),
    "compressed": ((200, {"content-encoding": "gzip"}, WHOLE), "failed"),
    "too long": ((200, {}, WHOLE + b" " * MAX_RECORD_BYTES), "failed"),
    "cut off": ((200, {"content-length": "100000"}, WHOLE), "failed"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_any_other_answer_finds_nothing(name: str, server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """A record that is not there is none; whatever is not the record in plain JSON is a failure; none is believed."""
    reply, outcome = ANSWERS[name]
    server.answer = lambda _: reply

    seen, counted = one(server, tmp_path, fhir_words, seconds=2 if name == "cut off" else 10)

    assert (counted == "late" if name == "cut off" else counted == outcome) and not isinstance(seen, Seen)
    assert len(server.seen) == 1


def test_nobody_there_finds_nothing(fhir_words: FhirWords, tmp_path: Path) -> None:
    """A server that does not accept connections."""
    with running_fhir() as server:
        pass

    assert one(server, tmp_path, fhir_words)[1] == "failed"


def test_a_late_answer_is_none(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """The deadline holds, and what comes after it is not used."""
    server.delay = 1.5

    seen, outcome = one(server, tmp_path, fhir_words, seconds=0.1)

    assert isinstance(seen, StoreUnavailableError) and outcome == "late"


@pytest.mark.parametrize("name", ["..", ".", "a/b", "o1?x=1", "o%2f1", "", "o1#"])
def test_what_is_no_id_is_not_asked_for(name: str, server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """No name reaches another address of the server."""
    assert one(server, tmp_path, fhir_words, Lookup("Observation", name)) == (None, "absent")
    assert server.seen == []


def test_an_answer_is_kept_for_its_term_and_no_longer(
    server: FhirServer, fhir_words: FhirWords, tmp_path: Path
) -> None:
    """Found or absent, it is used again within the term, counted from the question; then the server is asked anew."""
    clock = Ticking()

    async def work(lookup: RecordLookup, _: LookupCounts) -> None:
        absent = Lookup("Observation", "o9")
        for name, asked in (("o1", O1), ("o9", absent)):
            server.seen.clear()
            first = await lookup.find((asked,), fhir_words)
            clock.now += 4.9
            server.put(observation(name, "p-other"))
            assert await lookup.find((asked,), fhir_words) == first
            assert len(server.seen) == 1
            clock.now += 0.2
            assert (await lookup.find((asked,), fhir_words))[asked] == Seen("Observation", name, "p-other", ("labs",))

    looking(server, tmp_path, work, LookupLimits(seconds=10, keep_seconds=5), clock)


def test_the_term_of_an_answer_begins_with_its_question(fhir_words: FhirWords) -> None:
    """The record may have changed as soon as it was read, however long the answer was on its way."""
    clock, asked = Ticking(), list[float]()

    class Late:
        async def fetch_record(self, *_: Any) -> bytes:
            asked.append(clock.now)
            clock.now += 3
            return WHOLE

    async def story() -> None:
        limits = LookupLimits(seconds=10, keep_seconds=5)
        lookup = RecordLookup(Late(), "http://fhir.example/fhir", limits, LookupCounts(), clock)
        for clock.now in (1000, 1004.5, 1005):
            assert (await lookup.find((O1,), fhir_words))[O1] == SEEN

    asyncio.run(story())
    assert asked == [1000, 1005]


def test_a_failure_is_not_kept(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """Once the server answers again, so does the look-up."""

    async def work(lookup: RecordLookup, _: LookupCounts) -> None:
        server.answer = lambda _: (500, {}, b"")
        with pytest.raises(StoreUnavailableError):
            await lookup.find((O1,), fhir_words)
        server.answer = None
        assert (await lookup.find((O1,), fhir_words))[O1] == SEEN

    looking(server, tmp_path, work)


def test_a_change_seen_here_is_forgotten_at_once(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """What was kept is dropped, and until the term is over nothing is kept: the change itself may come later."""
    clock = Ticking()

    async def work(lookup: RecordLookup, _: LookupCounts) -> None:
        await lookup.find((O1,), fhir_words)
        lookup.forget("Observation", "o1")
        for patient in ("p-dana", "p2", "p3"):
            server.put(observation("o1", patient))
            seen = (await lookup.find((O1,), fhir_words))[O1]
            assert seen is not None and seen.patient == patient
        clock.now += 5.1
        await lookup.find((O1,), fhir_words)
        server.seen.clear()
        await lookup.find((O1,), fhir_words)
        assert server.seen == []

    looking(server, tmp_path, work, LookupLimits(seconds=10, keep_seconds=5), clock)


def test_a_look_up_that_began_before_a_change_is_not_kept(
    server: FhirServer, fhir_words: FhirWords, tmp_path: Path
) -> None:
    """Nor is it shared with whoever asks after the change."""

    async def work(lookup: RecordLookup, _: LookupCounts) -> None:
        server.delay = 0.3
        before = asyncio.create_task(lookup.find((O1,), fhir_words))  # type: ignore[arg-type]
        while not server.seen:  # noqa: ASYNC110 - it is seen in a thread of its own
            await asyncio.sleep(0.01)
        lookup.forget("Observation", "o1")
        after = asyncio.create_task(lookup.find((O1,), fhir_words))  # type: ignore[arg-type]
        await asyncio.gather(before, after)
        assert len(server.seen) == 2

    looking(server, tmp_path, work)


def test_the_same_question_is_asked_once(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """Those who ask together share the answer, and one who leaves takes it from nobody."""

    async def work(lookup: RecordLookup, _: LookupCounts) -> None:
        server.delay = 0.2
        asking = [asyncio.create_task(lookup.find((O1,), fhir_words)) for _ in range(20)]  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        asking[0].cancel()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert all(each == {O1: SEEN} for each in found[1:])
        assert len(server.seen) == 1

    looking(server, tmp_path, work)


def test_no_more_than_so_many_at_once(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """What is too much is turned away at once; the server never sees more than the limit at a time."""

    async def work(lookup: RecordLookup, counts: LookupCounts) -> None:
        server.delay = 0.3
        asked = [Lookup("Observation", f"x{number}") for number in range(40)]
        found = await asyncio.gather(*[lookup.find((each,), fhir_words) for each in asked], return_exceptions=True)
        turned_away = [each for each in found if isinstance(each, StoreUnavailableError)]
        assert counts.outcomes["busy"] == 40 - 2 * (1 + WAITING) == len(turned_away)
        assert len(server.seen) == 2 * (1 + WAITING)

    looking(server, tmp_path, work, LookupLimits(seconds=10, at_once=2))


@pytest.mark.parametrize("limits", [{"keep_entries": 3}, {"keep_bytes": 3000}, {"keep_seconds": 0}])
def test_no_more_than_so_much_is_kept(
    limits: dict[str, Any], server: FhirServer, fhir_words: FhirWords, tmp_path: Path
) -> None:
    """Entries and bytes; the oldest go first; a term of nothing keeps nothing."""
    clock = Ticking()

    async def work(lookup: RecordLookup, counts: LookupCounts) -> None:
        names = [Lookup("Observation", f"o{number}") for number in range(20)]
        server.put(*(observation(each.value) for each in names))
        for each in names:
            await lookup.find((each,), fhir_words)
            lookup.forget("Observation", f"never-{each.value}")
        for each in reversed(names):
            await lookup.find((each,), fhir_words)
        assert counts.outcomes["kept"] <= 4
        assert (counts.outcomes["kept"] == 0) == ("keep_seconds" in limits)

    looking(server, tmp_path, work, LookupLimits(seconds=10, **limits), clock)


def test_other_words_read_anew(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """What was read by the routes of one pack is not kept for another's."""
    entry = msgspec.structs.replace(fhir_words.types["Observation"], subject=("performer",))
    others = msgspec.structs.replace(fhir_words, types=fhir_words.types | {"Observation": entry})

    async def work(lookup: RecordLookup, _: LookupCounts) -> None:
        assert (await lookup.find((O1,), fhir_words))[O1] == SEEN
        assert (await lookup.find((O1,), others))[O1] is None
        assert (await lookup.find((O1,), fhir_words))[O1] == SEEN

    looking(server, tmp_path, work)


@pytest.mark.parametrize("turns", range(1, 5))
def test_what_was_asked_for_under_other_words_is_not_kept(fhir_words: FhirWords, turns: int) -> None:
    """The pack is exchanged as a look-up begins or while it is under way: its answer is told to its asker alone."""
    entry = msgspec.structs.replace(fhir_words.types["Observation"], subject=("performer",))
    others = msgspec.structs.replace(fhir_words, types=fhir_words.types | {"Observation": entry})
    go_on = asyncio.Event()

    class Slow:
        asked = 0

        async def fetch_record(self, *_: Any) -> bytes:
            self.asked += 1
            if self.asked == 1:
                await go_on.wait()
            return WHOLE

    async def story() -> None:
        lookup = RecordLookup(Slow(), "http://fhir.example/fhir", LookupLimits(seconds=10), LookupCounts(), Ticking())
        before = asyncio.create_task(lookup.find((O1,), others))  # type: ignore[arg-type]
        for _ in range(turns):
            await asyncio.sleep(0)
        assert (await lookup.find((O1,), fhir_words))[O1] == SEEN
        go_on.set()
        assert (await before)[O1] is None
        assert (await lookup.find((O1,), fhir_words))[O1] == SEEN

    asyncio.run(story())


def test_what_the_server_sets_is_not_kept_or_sent(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """A cookie of one answer is not sent with the next question."""

    async def work(lookup: RecordLookup, _: LookupCounts) -> None:
        server.answer = lambda path: (200, {"set-cookie": "a=b; Path=/"}, WHOLE)
        for _unused in range(2):
            await lookup.find((O1,), fhir_words)
        assert len(server.seen) == 2 and all("cookie" not in headers for _, headers in server.seen)

    looking(server, tmp_path, work, LookupLimits(seconds=10, keep_seconds=0))


def test_a_new_token_is_used(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """The file is read again when it has changed; one that is empty by then asks nothing."""

    async def work(lookup: RecordLookup, _: LookupCounts) -> None:
        for text in ("another-token", TOKEN, "", "two\nlines"):
            (tmp_path / "token").unlink()
            (tmp_path / "token").write_text(text)
            try:
                await lookup.find((O1,), fhir_words)
            except StoreUnavailableError:
                assert text != TOKEN
            else:
                assert text == TOKEN
        assert [headers["authorization"] for _, headers in server.seen] == ["Bearer another-token", f"Bearer {TOKEN}"]

    looking(server, tmp_path, work, LookupLimits(seconds=10, keep_seconds=0))


def test_proxies_of_the_environment_are_not_used(
    server: FhirServer, fhir_words: FhirWords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else gets our token because a variable says so."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert one(server, tmp_path, fhir_words)[0] == SEEN


def test_metrics_count_by_outcome(server: FhirServer, fhir_words: FhirWords, tmp_path: Path) -> None:
    """Each outcome by its name, and the seconds; no id of anybody."""

    async def work(lookup: RecordLookup, counts: LookupCounts) -> str:
        metrics = Metrics()
        counts.watch(metrics)
        for _ in range(2):
            await lookup.find((O1,), fhir_words)
        await lookup.find((Lookup("Observation", "o9"),), fhir_words)
        return metrics.render().decode()

    told = looking(server, tmp_path, work)

    for line in ("ruqsat_fhir_lookups_found_total 1.0", "ruqsat_fhir_lookups_kept_total 1.0", "ruqsat_fhir_lookups_absent_total 1.0",
                 "ruqsat_fhir_lookup_seconds_count 2.0"):  # fmt: skip
        assert line in told
    assert "p-dana" not in told
    assert all(f"ruqsat_fhir_lookups_{name}_total" in told for name in OUTCOMES)


SOUND = 'url = "https://fhir.example/fhir"\ntoken_file = "{token}"\n'


@pytest.mark.parametrize("text", [
    "", "x = 1", '["/fhir"]', '["/fhir"]\nurl = "https://h/fhir"', '["/fhir"]\nurl = "http://h/fhir"\ntoken_file = "{token}"',
    '["/fhir"]\nurl = "https://h/fhir/"\ntoken_file = "{token}"', '["/fhir"]\nurl = "https://h/fhir?x=1"\ntoken_file = "{token}"',
    '["/fhir"]\nurl = "https://u:canary@h/fhir"\ntoken_file = "{token}"', '["/fhir"]\nurl = "ftp://h/fhir"\ntoken_file = "{token}"',
    '["/fhir"]\nurl = "https://[::1/fhir"\ntoken_file = "{token}"', '["/fhir"]\nurl = "https:///fhir"\ntoken_file = "{token}"',
    '["/fhir"]\nurl = "https://h/fhir"\ntoken_file = "nowhere"', f'["/fhir"]\n{SOUND}certificate = "{{token}}"',
    f'["/fhir"]\n{SOUND}seconds = 0', f'["/fhir"]\n{SOUND}seconds = 31', f'["/fhir"]\n{SOUND}keep_seconds = 61', f'["/fhir"]\n{SOUND}at_once = 0',
    f'["/fhir"]\n{SOUND}keep_bytes = 0', f'["/fhir"]\n{SOUND}follow_redirects = true', "[",
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused(text: str, tmp_path: Path) -> None:
    """Without credentials, over a net in the clear, to more than a base, beyond the limits; values are not repeated."""
    (tmp_path / "token").write_text("t")
    file = tmp_path / "fhir.toml"
    file.write_text(text.replace("{token}", str(tmp_path / "token")))

    with pytest.raises(SettingsError) as told:
        read_servers(file)
    assert "canary" not in str(told.value)


def test_a_file_that_can_be_used_is_read(tmp_path: Path) -> None:
    """A file of FHIR servers is read as it is written, and no file is no servers."""
    (tmp_path / "token").write_text("t")
    file = tmp_path / "fhir.toml"
    file.write_text('["/fhir"]\n' + SOUND.replace("{token}", str(tmp_path / "token")))

    assert read_servers(file)["/fhir"].keep_seconds == 5.0
    assert read_servers(None) == {}


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    """The process does not start without the proof that it was given."""
    for name in ("token", "c", "k"):
        (tmp_path / name).write_text("x")
    file = tmp_path / "fhir.toml"
    file.write_text(f'["/fhir"]\nurl = "https://h/fhir"\ncertificate = "{tmp_path / "c"}"\nkey = "{tmp_path / "k"}"\n')

    with pytest.raises(SettingsError):
        HttpFhirServer(read_servers(file)["/fhir"])


@pytest.mark.parametrize("base", ["/fhirx", "/", "fhir", "/fhir/Observation"])
def test_a_server_of_no_base_of_the_routes_stops_the_start(base: str, tmp_path: Path) -> None:
    """A misspelt base would be asked for nothing, without a word."""
    file = servers_file(tmp_path, "http://127.0.0.1:9/fhir")
    file.write_text(file.read_text().replace('["/fhir"]', f'["{base}"]'))

    with pytest.raises(NotStartedError, match="RUQSAT_FHIR_SERVERS"), serving(tmp_path, fhir_servers=str(file)):
        pass
