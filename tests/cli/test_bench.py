"""`ruqsat bench` against a running demo: it tells latencies, and finds what is answered wrongly."""

import asyncio
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ruqsat.cli.bench import Shape, figures, read_target
from ruqsat.cli.bench_questions import IN_A_BATCH, Server, read_questions, requests_of
from ruqsat.cli.load_client import Run, in_turns
from ruqsat.cli.main import app
from ruqsat.errors import SettingsError, StoreUnavailableError
from tests.process.starter import Sidecar, question, serving

runner = CliRunner()


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> "Sidecar":
    """A demo that may be searched."""
    with serving(
        tmp_path_factory.mktemp("bench"), json_search="true", search_candidates_per_minute="10000000"
    ) as started:
        yield started


def bench(sidecar: Sidecar, *words: str, listener: str = "json") -> tuple[int, dict]:
    """Run the command for a moment; return its exit code and figures."""
    given = ("--against", f"http://{sidecar.addresses[listener]}", "--seconds", "0.5", "--runs", "1", "--json")
    done = runner.invoke(app, ["bench", *given, *words])
    assert done.stdout, done.exception
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize("shape", ["steady_reads", "batch", "search"])
def test_the_demos_questions_are_answered_rightly(sidecar: Sidecar, shape: str) -> None:
    """Every answer is compared; the figures are those that reports read."""
    code, met = bench(sidecar, "--shape", shape, "--connections", "2")

    assert (code, met["wrong"], met["failed"], met["unknown"]) == (0, 0, 0, 0), met
    assert met["runs"][0]["right"] > 3 and met["scenario"] == shape
    assert 0 < met["p50_us"] <= met["p95_us"] <= met["p99_us"] <= met["p999_us"] <= met["max_us"]


@pytest.mark.slow
def test_a_wrong_answer_is_found_and_an_unknown_one_told(sidecar: Sidecar, tmp_path: Path) -> None:
    """A file says what is right; where it does not, nobody claims to know."""
    path = tmp_path / "questions.jsonl"
    lines = [{"request": question(), "expect": False}, {"request": question("dr_erlan")}]
    path.write_text("\n".join(map(json.dumps, lines)))

    code, met = bench(sidecar, "--questions", str(path), "--rate", "40")

    assert code == 1 and met["wrong"] > 0 and met["unknown"] > 0 and met["runs"][0]["right"] == 0
    assert bench(sidecar, "--questions", str(path), "--shape", "batch")[0] == 1


@pytest.mark.slow
def test_a_proxys_questions_are_asked_with_tokens(sidecar: Sidecar, tmp_path: Path) -> None:
    """200 is a permit and 403 a denial; any other answer is a failure."""
    path = tmp_path / "questions.jsonl"
    asked = [("dr_aida", True), ("dr_erlan", False)]
    lines = [{"uri": "/patients/p-dana/labs/o1", "token": sidecar.tokens[who], "expect": right} for who, right in asked]
    path.write_text("\n".join(map(json.dumps, lines)))
    words = ("--questions", str(path), "--shape", "forward_auth")

    code, met = bench(sidecar, *words, listener="auth")
    assert code == 0 and met["runs"][0]["right"] > 5, met

    path.write_text(json.dumps(lines[0] | {"token": "none"}))
    code, met = bench(sidecar, *words, listener="auth")
    assert code == 1 and met["failed"] == len_of(met)


@pytest.mark.parametrize("reason", ["try_later", "overloaded", "not_permitted"])
def test_a_denial_that_puts_off_is_no_right_answer(reason: str, tmp_path: Path) -> None:
    """A sidecar that decides nothing is no fast one: what it denies for want of facts or time has failed."""
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"request": question(), "uri": "/", "token": "t", "expect": False}))
    right = "right" if reason == "not_permitted" else "failed"
    one = {"decision": False, "context": {"reason": reason}}
    denied = f"HTTP/1.1 403 Forbidden\r\nX-Ruqsat-Subject: \r\nX-Ruqsat-Reason: {reason}".encode()

    for shape, head, told in (
        ("steady_reads", b"HTTP/1.1 200 OK\r\n\r\n", one),
        ("batch", b"HTTP/1.1 200 OK\r\n\r\n", {"evaluations": [one] * IN_A_BATCH}),
        ("forward_auth", denied, None),
    ):
        _, kind_of = next(requests_of(shape, read_questions(path), SERVER, 1))
        assert kind_of(head, json.dumps(told).encode()) == right, shape


@pytest.mark.parametrize("shape", ["steady_reads", "batch"])
def test_what_is_wrong_is_told_by_its_question_and_what_failed_by_its_status(shape: str, tmp_path: Path) -> None:
    """Of a thousand questions somebody must know which to look at; no value of it is repeated."""
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps({"request": question(), "expect": number != 2}) for number in (1, 2, 3)))
    one, notes = {"decision": True, "context": {"reason": "permitted"}}, Counter[str]()
    told = json.dumps({"evaluations": [one] * IN_A_BATCH} if shape == "batch" else one).encode()

    for _, kind_of in islice(requests_of(shape, read_questions(path), SERVER, 1, notes), 20):
        kind_of(b"HTTP/1.1 200 OK", told)
    assert set(notes) == {"wrong: question 2"}

    kind_of(b"HTTP/1.1 401 Unauthorized", b"")
    kind_of(b"HTTP/1.1 200 OK", json.dumps(one | {"decision": None}).encode())
    assert set(notes) == {"wrong: question 2", "failed: status 401", "failed: status 200, put off or undecided"}


def test_every_question_of_a_long_file_is_asked(tmp_path: Path) -> None:
    """What was never asked cannot be found wrong, however seldom it is to be asked."""
    path = tmp_path / "questions.jsonl"
    uris = [f"/patients/p{number}" for number in range(3000)]
    path.write_text("\n".join(json.dumps({"uri": each, "token": "t", "weight": 0.001}) for each in uris))

    asked = islice(requests_of("forward_auth", read_questions(path), SERVER, 1), 5000)

    assert {request.partition(b"X-Original-URI: ")[2].split(b"\r\n")[0].decode() for request, _ in asked} == set(uris)


def test_what_was_answered_after_the_time_is_no_rate_of_the_time() -> None:
    """A server that is asked for too much answers late: the rate is by when it did."""
    run = Run()
    run.answers = [(0.0, 0.5, "right"), (0.5, 2.0, "right"), (0.9, 4.0, "right"), (1.0, 4.0, "right")]

    assert figures([(run, 0.1)], 1.0)["rps"] == 1.0


SERVER = Server("h", "", ())


def len_of(met: dict) -> int:
    """Return how many answers there were."""
    return sum(each[name] for each in met["runs"] for name in ("right", "wrong", "unknown", "failed"))


def test_bursts_come_from_an_open_loop(sidecar: Sidecar) -> None:
    """Without a rate there is no burst."""
    words = ("--shape", "break_glass_burst")
    refused = runner.invoke(app, ["bench", "--against", f"http://{sidecar.addresses['json']}", *words])

    assert isinstance(refused.exception, SettingsError)
    code, met = bench(sidecar, *words, "--rate", "50")
    assert code == 0 and len_of(met) == 2  # a tenth of 50 a second, for half a second


def test_where_tls_fails_it_is_said(sidecar: Sidecar) -> None:
    """That nobody listens is another fault than that they do not speak TLS, or by a certificate of others."""
    given = ("--against", f"https://{sidecar.addresses['json']}", "--seconds", "0.5", "--runs", "1")
    done = runner.invoke(app, ["bench", *given])

    assert isinstance(done.exception, StoreUnavailableError) and "SSL" in str(done.exception), done.exception


def test_where_nobody_answers_nothing_is_measured(tmp_path: Path) -> None:
    """It is said, and no figure is told."""
    for url in ("http://127.0.0.1:1", f"unix:{tmp_path}/none"):
        done = runner.invoke(app, ["bench", "--against", url, "--seconds", "0.5", "--runs", "1"])
        assert isinstance(done.exception, StoreUnavailableError) and not done.stdout
        assert "Connect call failed" in str(done.exception) or "No such file" in str(done.exception)
    with pytest.raises(SettingsError, match="against"):
        read_target("ftp://127.0.0.1", [], None)


class Lent(asyncio.Protocol):
    """Gives so many answers on a connection, and hangs up after the last; where there are none, it keeps silent."""

    def __init__(self, answers: int) -> None:
        self._left = answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport: Any = transport

    def data_received(self, _: bytes) -> None:
        """Answer, as long as there is one left."""
        if self._left:
            self._left -= 1
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            if not self._left:
                self._transport.close()


@pytest.mark.parametrize("answers", [3, 0])
def test_callers_are_as_many_to_the_end_and_wait_for_nobody_for_ever(answers: int) -> None:
    """A proxy closes a connection after so many requests; a server that is stuck answers none of them."""

    async def asked() -> Run:
        server = await asyncio.get_running_loop().create_server(lambda: Lent(answers), "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        run = await in_turns(address, b"GET / HTTP/1.1\r\n\r\n", 2, 0.5, lambda *_: "right", patience=0.1)
        server.close()
        await asyncio.sleep(0.1)
        return run

    run = asyncio.run(asyncio.wait_for(asked(), 30))

    if answers:
        assert len(run.answers) > 2 * answers, "after these nobody was asked any more"
    else:
        assert (len(run.answers), run.due, run.unanswered) == (0, 2, 2)


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    """A line that is no question by its number, a shape by what it lacks, a header by how it is written."""
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps({"request": question()}) + '\n{"request": 1}\n')
    with pytest.raises(SettingsError, match="line 2"):
        read_questions(path)
    for weight in (0, -1, 1e300):
        path.write_text(json.dumps({"request": question(), "weight": weight}))
        with pytest.raises(SettingsError, match="weight"):
            read_questions(path)
    path.write_text(json.dumps({"uri": "/x", "token": "secret-token"}))
    server = read_target("http://127.0.0.1:8181", [], None)[1]
    for shape in (Shape.STEADY_READS, Shape.BATCH, Shape.SEARCH):
        with pytest.raises(SettingsError, match="`request`"):
            requests_of(shape.value, read_questions(path), server, 1)
    with pytest.raises(SettingsError, match="header"):
        read_target("http://127.0.0.1:8181", ["X: a\r\nY: b"], None)


def test_a_target_is_read_whole() -> None:
    """Host, port, what stands before the paths, and headers of one's own go into every request."""
    address, server, tls = read_target("https://pdp.example/authz/", ["Authorization: Bearer x"], None)

    assert (address, tls is not None) == ("pdp.example:443", True)
    assert server == ("pdp.example", "/authz", (("Authorization", "Bearer x"),))
