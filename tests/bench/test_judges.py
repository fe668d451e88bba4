"""What the benches call right, late, slow and void; pure, and each verdict has its opposite beside it."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from bench.asking import JSON, LATER, SHAPES, Asking, Call, Churn, Told, is_later
from bench.clients import faults, of_open_loop
from bench.gate import asked_of, judge
from bench.ground import cpu_seconds
from bench.machine import file_system
from bench.open_loop import Run
from bench.owed import Line, lines, middle_ratio
from bench.planted_delay import PLACES
from bench.report import APART, opened, peers, read, render
from bench.worlds import ClinicWorld

from tests.conftest import ROOT

YES, NO = Told(True, "permitted", ("notify_subject",)), Told(False, "consent_required", ())
CALL = Call("read: allow", "json", "POST", "/access/v1/evaluation", b"{}", JSON, YES, "p1", NO)
OWED = {"bursts": 60, "cpu_over_no_op": 4.6, "later": 0.01, "rate": 150, "p99_over_no_op": 15, "p99_floor_ms": 20}
MET: dict[str, Any] = {
    "bursts": 100, "calls": 3200, "ratio": 4.0, "p99_ms": 30.0, "p99_over_no_op": 3.0, "unanswered": 0, "later": 0,
    "wrong": {"bursts": 0, "open loop": 0, "churn": 0}, "withdrawn": 9, "scheduled": 9, "churn_calls": 900,
}  # fmt: skip


def churn(bound: float = 0.0) -> Churn:
    """Return a judge who knows of a withdrawal that was sent at 10 and acknowledged at 11."""
    judge = Churn(bound)
    judge.sent["p1"], judge.acknowledged["p1"] = 10.0, 11.0
    return judge


@pytest.mark.parametrize(("said", "began", "ended", "right"), [
    (YES, 8.0, 9.9, True), (NO, 8.0, 9.9, False),     # before it was sent only the old answer can be
    (YES, 9.0, 10.5, True), (NO, 9.0, 10.5, True),    # while it is under way both can
    (YES, 10.9, 12.0, True), (NO, 11.1, 12.0, True),
    (YES, 11.1, 12.0, False),                         # asked after the acknowledgement: the old one never
    (Told(True, "permitted", ()), 10.5, 10.6, False), # nor ever a third
])  # fmt: skip
def test_an_answer_is_judged_by_when_it_was_asked(said: Told, began: float, ended: float, right: bool) -> None:
    """Where the withdrawal waited until it was visible."""
    assert churn().is_right(CALL, said, began, ended) is right


def test_an_old_answer_may_lag_within_the_bound_only_and_is_counted() -> None:
    """Where nobody waited: five seconds, and no longer."""
    judge = churn(5.0)

    assert judge.is_right(CALL, YES, 15.5, 15.6) and judge.late == [4.5]
    assert not judge.is_right(CALL, YES, 16.1, 16.2)
    assert judge.is_right(CALL, NO, 12.0, 12.25) and judge.first_denials == {"p1": 1.25}


def test_who_withdrew_nothing_is_judged_by_the_one_right_answer() -> None:
    """A withdrawal of somebody else excuses nothing."""
    other = CALL._replace(patient="p2")

    assert churn().is_right(other, YES, 12.0, 12.1) and not churn().is_right(other, NO, 12.0, 12.1)


def test_to_be_put_off_is_neither_right_nor_wrong() -> None:
    """A denial for want of facts, and 503; every other denial is an answer, and an error is none."""
    body = b'{"decision":false,"context":{"id":"1","reason":"try_later","policy":"p","token":"t"}}'
    assert is_later(CALL.read(200, {}, body)) and CALL.read(503, {}, b"") == LATER and is_later((403, "overloaded"))
    assert not is_later(NO) and not is_later((403, "not_permitted")) and CALL.read(500, {}, b"") is None
    put_off = Told(False, LATER, ())
    assert is_later((YES, put_off), (YES, YES)) and not is_later((NO, put_off), (YES, YES))
    assert not is_later((put_off,), (YES, YES))
    ((_, kind_of),) = [next(asked_of([CALL]))]
    kinds = {status: kind_of(b"HTTP/1.1 %d X\r\na: b" % status, body) for status in (200, 503, 500)}
    assert kinds == {200: "later", 503: "later", 500: "wrong"}


def test_who_puts_off_more_than_one_of_a_hundred_is_at_fault_for_each() -> None:
    """One is no wrong decision; but denying everything for want of facts would be the fastest of all."""
    run = Run()
    run.answers = [(0.0, 0.1, "right")] * 99 + [(0.0, 0.1, "later")]
    assert faults(run) == 0
    run.answers.append((0.0, 0.1, "later"))
    assert faults(run) == 2
    run.answers, run.unanswered = [(0.0, 0.1, "later")] * 5 + [(0.0, 0.1, "wrong")], 3
    assert faults(run) == 9 == of_open_loop(run, 1.0, 0.0)["wrong"]


@pytest.mark.parametrize(("change", "code"), [
    ({}, 0), ({"ratio": 4.7}, 1), ({"wrong": MET["wrong"] | {"churn": 1}}, 1), ({"unanswered": 1}, 1), ({"later": 40}, 1),
    ({"p99_over_no_op": 16.0}, 1), ({"p99_over_no_op": 16.0, "p99_ms": 19.0}, 0), ({"bursts": 59, "ratio": None}, 2),
    ({"withdrawn": 0}, 2), ({"withdrawn": 4}, 2), ({"withdrawn": 8}, 0), ({"withdrawn": 0, "scheduled": 0}, 2),
])  # fmt: skip
def test_the_gate_opens_for_what_is_owed_and_for_nothing_else(change: dict[str, Any], code: int) -> None:
    """Each figure alone shuts it; too little to judge by is no pass."""
    missed, void = judge(MET | change, OWED)

    assert (1 if missed else 2 if void else 0) == code, (missed, void)


def test_every_place_that_a_delay_is_planted_at_is_there() -> None:
    """A renamed function would leave the gate's own test without a plant."""
    assert set(PLACES) >= {"decode", "facts", "evaluate", "journal", "encode"}
    assert all(callable(getattr(owner, name)) for owner, name in PLACES.values())


def test_processor_time_is_the_kernels_count() -> None:
    """It grows with work, by about as much as this process says itself; idling adds little."""
    before, own = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - own < 0.05:
        pass
    worked = cpu_seconds(os.getpid()) - before
    assert 0.04 < worked < 1.0


def test_every_shape_has_calls_and_their_right_answers() -> None:
    """The same for the same stream; both permits and denials."""
    world = ClinicWorld(1, 2, 100)
    asking = Asking(world, lambda who, roles, org, purpose: f"{who}.{org}")
    for shape in SHAPES:
        withdrawn = tuple(world.withdrawals(2, 20)) if shape == "consent_churn" else ()
        calls = asking.calls(shape, 40, "x", withdrawn)
        assert calls == asking.calls(shape, 40, "x", withdrawn) != asking.calls(shape, 40, "y", withdrawn)
        assert len({str(call.right) for call in calls}) > 1
        assert any(call.after is not None and call.after != call.right for call in calls) is bool(withdrawn)


def test_the_report_tells_machine_method_and_peers_and_every_wrong_answer(tmp_path: Path) -> None:
    """From files alone; a peer's figures stand as they are in its file."""
    quantiles = dict.fromkeys(("p50_us", "p95_us", "p99_us", "p999_us", "max_us"), 1500.0)
    base = {
        "name": "no-op",
        "scenario": "steady_reads",
        "connections": 16,
        "journal": None,
        "rps": 50_000.0,
        "wrong": 0,
    }
    runs = [{"rps": 40_000.0}, {"rps": 50_000.0}, {"rps": 60_000.0}]
    ours = base | {"name": "ruqsat", "journal": "durable", "rps": 20_000.0, "wrong": 7, "client_cpu": 0.97}
    ours |= {"runs": [{"rps": 20_000.0}, {"rps": 20_000.0}, {"rps": 36_000.0}]} | quantiles
    machine = {
        "cpu": "a processor", "cores": 2, "memory_gb": 8, "kernel": "6", "python": "3.11", "versions": {"x": "1"},
        "wrk": "wrk 4", "commit": "abc", "at": "2026", "load_before": 0, "load_after": 1, "rounds": 3, "seconds": 3.0,
        "pinned": True, "hospitals": 3, "patients": 1000, "file_system": file_system(Path("/proc/self")),
    }  # fmt: skip
    results, peer = tmp_path / "results", tmp_path / "peers" / "cerbos"
    results.mkdir()
    peer.mkdir(parents=True)
    records = [base | {"runs": runs} | quantiles, ours]
    (results / "closed.json").write_text(json.dumps({"machine": machine, "records": records}))
    (peer / "result.json").write_text(json.dumps([ours | {"name": "cerbos", "scenario": "shared", "rps": 4_321.0}]))
    rush = ours | {"cpu_us": 100.0, "later_us": 150.0, "later_s": 30.0, "spread": 0.1}
    (results / "later.json").write_text(json.dumps({"machine": machine, "records": [rush]}))
    row = ours | {"name": "cedar", "scenario": "shared", "rps": 6_789.0}
    (results / "peers.json").write_text(json.dumps({"machine": {}, "rows": [row]}))

    page = render(*read(results, tmp_path / "peers"))

    assert "Journals on proc." in page and machine["file_system"] != file_system(ROOT)
    assert "a processor, 2 cores" in page and "coordinated omission" in page and "Commit `abc`" in page
    row = next(line for line in page.splitlines() if "ruqsat, durable" in line)
    assert "| 0.50 | 80% |" in row and "1.50 ms" in row and row.endswith("| 7 |") and " * |" in row
    assert (
        "could therefore have 4,000 answers/s of one core (40% of the rate above)" in page
        and "| 150 µs | 30 s |" in page
    )
    for name, figure in (("cerbos", "4,321"), ("cedar", "6,789")):
        assert figure in next(line for line in page.splitlines() if name in line)


def test_what_is_owed_is_judged_by_the_bound_that_it_has() -> None:
    """The least and the most, each met by the bound itself and missed just beyond; the ratio is that of the turns."""
    assert Line("x", 0.25, 0.25, is_least=True).is_kept and not Line("x", 0.249, 0.25, is_least=True).is_kept
    assert Line("x", 1.3, 1.3).is_kept and not Line("x", 1.301, 1.3).is_kept
    assert Line("x", 7.1, 6, 3, " µs").cells() == ("x", "at most 6 µs", "3 µs", "7.10 µs", "**missed**")
    assert middle_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0
    assert middle_ratio([1.0], [1.0, 2.0]) is None and middle_ratio([1.0], [0.0]) is None


def test_where_others_had_the_core_processor_time_is_judged_and_the_rate_marked() -> None:
    """Ours or Cerbos's: a rate on half of a core is no rate; what was no answer is told, and how it was measured."""
    durable = {"name": "durable", "journal": "durable", "scenario": "closed", "connections": 16, "void": False,
               "of_cerbos": [5.2, 5, 6], "of_cerbos_by_cpu": [2.9, 2, 3], "errors": 4}  # fmt: skip
    cerbos = durable | {"name": "cerbos", "journal": "none"}
    of = {"flags": {"rounds": 3, "seconds": 4, "patients": 400, "questions": 2500}, "versions": {"cerbos": "1.2"},
          "machine": {}}  # fmt: skip

    assert [each.measured for each in lines({}, [durable, cerbos])] == [5.2]
    assert lines({}, [{key: value for key, value in durable.items() if "cerbos" not in key}]) == [], "none was had"
    for void in ([durable | {"void": True}, cerbos], [durable, cerbos | {"void": True}]):
        (line,) = lines({}, void)
        assert line.measured == 2.9 and "by CPU" in line.what and not line.is_kept
    page = peers([durable, cerbos | {"void": True}], of)
    assert "cerbos †" in page and "ruqsat, durable †" not in page and "| 0 | 4 |" in page
    assert "cerbos 1.2; 3 rounds of 4 s, 400 patients, 2,500 questions in turn, which Ruqsat decides anew" in page
    assert "may recall" in peers([durable], of | {"flags": of["flags"] | {"questions": 500}})


def test_every_line_that_is_owed_is_found_in_the_results_that_stand_here() -> None:
    """A part renamed, or written otherwise, would only be silent."""
    told = "\n".join(each.what for each in lines(*read(ROOT / "bench/results", ROOT / "bench/peers")[:2]))
    for what in (
        "lossy, 16", "durable, 16 connections, of the no-op", "durable, 64 connections, of the no-op",
        "lossy, 16 connections, anew", "durable, 16 connections, anew", "forward-auth, durable, 64 connections, anew",
        "durable, 16 connections, of Cerbos", "durable, 64 connections, of Cerbos", "forward-auth, durable, 16",
        "forward-auth, durable, 64", "the common one", "the dearest", "clinic, 100,", "shared, 99,", "shared copy, both",
        "100 a call, 1 callers, again", "100 a call, 16 callers, anew", "1,000,000 patients", "cached patient",
        "withdrawn, to deny, with hints", "granted, to allow, without hints",
    ):  # fmt: skip
        assert what in told


def test_what_is_run_apart_is_told_with_its_own_commit(tmp_path: Path) -> None:
    """A clean run that the gate failed, and a planted delay that it let pass, read as such."""
    of = {"machine": {"at": "2026", "commit": "fed"}}
    run = {"planted_us": 50.0, "ratio": 3.3, "wrong": {"bursts": 0, "churn": 2}}
    runs = [run | {"place": "decode", "code": 0}, run | {"place": None, "code": 1}]
    imported = {"patients": 1_000_000, "import_s": 9.0, "import_mb": 84.0, "database_mb": 3_188.0, "facts_mb": 1_681.0}
    found = {
        "small": 1_000,
        "large": 1_000_000,
        "small_us": 40.0,
        "large_us": 60.0,
        "in_memory": 50_000,
        "kb_each": 1.7,
    }
    for stem, records in (("gate_trial", runs), ("population", [imported, found])):
        (tmp_path / f"{stem}.json").write_text(json.dumps(of | {"records": records}))
    parts, others, machine = read(tmp_path, tmp_path / "none")

    told = "\n".join(write(parts[name], others) for name, write in APART.items())

    assert not others and not machine and told.count("commit `fed`") == 2
    assert "| clean |  | 3.30 | fails | 2 |" in told and "| decode | 50 µs | 3.30 | passes | 2 |" in told
    assert "1.50 × (owed at most 1.3 ×)" in told and "1.7 kB each" in told and "| 1,000,000 | 9 s | 84 MB |" in told


def test_a_spread_is_that_of_the_figure_it_stands_beside(tmp_path: Path) -> None:
    """In an open loop every run has the same rate: of the p99 it tells how far to trust it; and no load is left out."""
    runs = [{"rps": 100.0, "p99_us": p99} for p99 in (8_000.0, 10_000.0, 28_000.0)]
    record = {"name": "ruqsat", "scenario": "steady_reads", "share": 0.2, "journal": "durable", "spread": 0.0,
              "runs": [run | {"later": 7} for run in runs], "rps": 100.0, "p99_us": 10_000.0, "wrong": 0}  # fmt: skip
    page = opened([record], [])
    assert "| 200% |" in page and "| wrong | put off |" in page and page.rstrip().endswith(f"| 0 | {7 * len(runs)} |")
    for stem, load in (("closed", 2.5), ("shapes", 0.1)):
        said = {"machine": {"at": "2026", "commit": "abc", "load_before": load}, "records": []}
        (tmp_path / f"{stem}.json").write_text(json.dumps(said))
    assert read(tmp_path, tmp_path / "none")[2]["load_before"] == 2.5


def test_the_report_says_which_part_is_of_which_commit(tmp_path: Path) -> None:
    """A part may be run alone, later; parts of one commit are not told apart."""
    for stem, commit in (("closed", "abc"), ("copies", "abc"), ("rules", "def")):
        said = {"machine": {"at": "2026", "commit": commit}, "records": []}
        (tmp_path / f"{stem}.json").write_text(json.dumps(said))

    assert read(tmp_path, tmp_path / "none")[2]["commit"] == "abc (closed, copies); def (rules)"
    (tmp_path / "rules.json").unlink()
    assert read(tmp_path, tmp_path / "none")[2]["commit"] == "abc"
