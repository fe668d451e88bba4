"""The compiled enforcer answers as stock pycasbin does, to the row it names and to the error it raises."""

import os
import random
from collections import Counter
from dataclasses import replace
from threading import Event, Thread
from typing import Any

import pytest
from casbin.persist.adapter import Adapter, load_policy_line
from casbin.rbac.default_role_manager import RoleManager

import casbin
from ruqsat import CompiledEnforcer
from ruqsat.casbin import compiled_section, matcher_code, row_index
from ruqsat.casbin.compiled_section import CompiledSection
from ruqsat.casbin.role_links import RoleLinks
from tests.casbin.generator import EFFECTS, built, outcome, world

PAIRS = int(os.environ.get("RUQSAT_TEST_PAIRS", "1100"))
SWAPS = 100 if os.environ.get("RUQSAT_TEST_LONGER", "1") == "1" else 1000
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(1_000_000))))


def compared(seed: int, pairs: int) -> Counter[str]:
    """Compare so many worlds from a seed on; return how the requests were answered."""
    counts: Counter[str] = Counter()
    for number in range(seed, seed + pairs):
        each = world(number)
        ours, stock = built(CompiledEnforcer, each), built(casbin.Enforcer, each)
        interpret = ours._interpret

        def counted(values, interpret=interpret):
            counts["interpreted"] += 1
            return interpret(values)

        ours._interpret = counted
        for place, request in enumerate(each.requests):
            if place in (8, 14):
                verb, name, row = each.changes[place == 14]
                for enforcer in (ours, stock):
                    getattr(enforcer, f"{verb}_named_policy")(name, list(row))
            expected = outcome(stock, request)
            assert outcome(ours, request) == expected, f"world {number}, request {place}: {request}\n{each.model}"
            counts["requests"] += 1
            counts[expected[0]] += 1
            counts["allowed"] += expected[1] is True
        counts["looked up"] += any(report.keys for report in ours.compilation_report())
        counts["compiled"] += all(report.compiled for report in ours.compilation_report())
    return counts


@pytest.mark.slow
def test_random_models_policies_and_requests_get_the_answers_of_stock_pycasbin() -> None:
    """At least 1,000 pairs of model and policy, 20 requests each, while the policy changes; the seed is printed."""
    print(f"seed {SEED}: RUQSAT_TEST_SEED={SEED}")
    counts = compared(SEED, PAIRS)
    print(dict(counts))

    assert counts["requests"] >= 20 * PAIRS
    assert counts["allowed"] > PAIRS
    assert counts["raises"] > PAIRS
    assert counts["compiled"] > PAIRS / 2
    assert counts["looked up"] > PAIRS / 4
    # What raises is asked again of pycasbin; of the rest most must be answered by compiled code, or nothing was tested.
    assert counts["interpreted"] < counts["raises"] + 0.45 * counts["answers"]


BUGS = {
    "wrong index key": lambda patch: patch.setattr(
        row_index.Cell, "accepted", lambda self, values: self.constants or (values[0],)
    ),
    "lost residual": lambda patch: patch.setattr(CompiledSection, "_rest_of", lambda *_: None),
    "swapped effect": lambda patch: patch.setattr(compiled_section, "_EFFECTS", {"allow": 2, "deny": 0}),
    "one link too many": lambda patch: patch.setattr(RoleLinks, "__init__", _deeper(RoleLinks.__init__)),
    "wildcard forgotten": lambda patch: patch.setattr(
        row_index.Cell, "accepted", _without_constants(row_index.Cell.accepted)
    ),
    "a condition that may raise passed over": lambda patch: patch.setattr(
        row_index.Reader, "_is_safe", lambda *_: True
    ),
    "patterns confused": lambda patch: patch.setitem(
        matcher_code._PATTERNS, casbin.util.key_match2_func, matcher_code._key3
    ),
    "later row named first": lambda patch: patch.setattr(
        CompiledSection, "_candidates", _backwards(CompiledSection._candidates)
    ),
}


def _deeper(init):
    return lambda self, depth, *rest, **named: init(self, depth + 1, *rest, **named)


def _without_constants(accepted):
    return lambda self, values: [each for each in accepted(self, values) if each not in self.constants]


def _backwards(candidates):
    def turned(self, values):
        rows, matcher = candidates(self, values)
        return list(reversed(rows)), matcher

    return turned


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_of_the_compiler_is_caught(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is found by the comparison above, within its number of pairs."""
    BUGS[bug](monkeypatch)

    with pytest.raises(AssertionError, match="world"):
        compared(1, PAIRS)


def both(matcher: str, rows: list[list[str]], change=lambda enforcer: None):
    """Return the compiled enforcer and stock pycasbin over one small model."""
    made = []
    for kind in (CompiledEnforcer, casbin.Enforcer):
        model = kind.new_model(
            text="[request_definition]\nr = sub, obj\n[policy_definition]\np = sub, obj\n[role_definition]\ng = _, _\n"
            f"[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = {matcher}"
        )
        enforcer = kind(model)
        change(enforcer)
        enforcer.add_policies(rows)
        made.append(enforcer)
    return made


@pytest.mark.parametrize("matcher", [
    "r.sub != 'eval(p.obj)'", "r.sub == p.sub && eval(r.obj)", "r.sub == p.sub && eval( p.obj )",
    "r.sub == p.sub && r.obj != 'eval(p.obj)' && eval(p.obj)",
])  # fmt: skip
def test_what_only_looks_like_a_condition_of_a_row_is_left_to_pycasbin(matcher: str) -> None:
    """In a literal pycasbin puts the row's text there all the same; of what is no column it says so."""
    ours, stock = both(matcher, [["aida", "1 == 1"], ["dana", "'x' == 'y'"], ["root", "r.sub =="]])

    for request in [("aida", "1 == 1"), ("dana", "a"), ("eval(p.obj)", "a"), ("nobody", "a"), ("aida",)]:
        assert outcome(ours, request) == outcome(stock, request)
    assert not any(report.compiled for report in ours.compilation_report())


def test_a_role_manager_that_follows_no_link_at_all_links_nobody_to_itself() -> None:
    """Such is pycasbin's answer under a depth of nought; under one a name is linked to itself alone."""

    def give(enforcer, depth):
        enforcer.set_role_manager(RoleManager(depth))
        enforcer.build_role_links()

    for depth, expected in ((0, False), (1, True)):
        ours, stock = both("g(r.sub, p.sub)", [["aida", "x"]], lambda each, depth=depth: give(each, depth))

        assert (ours.enforce("aida", "x"), stock.enforce("aida", "x")) == (expected, expected)


def variants(number: int):
    """Return the world of a number with a plain allow-and-deny effect, and its enforcer's answers to its requests."""
    each = world(number)
    lines = ["e = " + EFFECTS[2] if line.startswith("e =") else line for line in each.model.splitlines()]
    each = replace(each, model="\n".join(lines))
    return each, [outcome(built(CompiledEnforcer, each), request) for request in each.requests]


@pytest.mark.slow
def test_the_order_of_rows_and_their_repetition_change_no_answer() -> None:
    """Shuffled and doubled rows: what was allowed is allowed, what was denied is denied, unless a condition raised."""
    answered = 0
    for number in range(SEED, SEED + 150):
        each, before = variants(number)
        shuffled = random.Random(number).sample(each.rows, len(each.rows))
        enforcer = built(CompiledEnforcer, replace(each, rows=shuffled))
        for assertion in enforcer.get_model()["p"].values():
            assertion.policy += [list(row) for row in assertion.policy]
        enforcer.invalidate()
        for request, expected in zip(each.requests, before, strict=True):
            now = outcome(enforcer, request)
            if "raises" not in (expected[0], now[0]):
                answered += 1
                assert now[1] == expected[1], f"seed {SEED}, world {number}, {request}"
    assert answered > 1000


@pytest.mark.slow
def test_an_added_deny_allows_nothing_and_an_added_allow_denies_nothing() -> None:
    """Under allow-and-deny, one more row with an effect moves answers one way only."""
    moved = Counter[str]()
    for number in range(SEED, SEED + 400):
        each, before = variants(number)
        if "eft" not in each.model.split("p = ")[1].splitlines()[0]:
            continue
        row = random.Random(number).choice([row for name, row in each.rows if name == "p"] or [None])
        if row is None:
            continue
        for effect in ("allow", "deny"):
            place = each.model.split("p = ")[1].splitlines()[0].split(", ").index("eft")
            added = [("p", [*row[:place], effect, *row[place + 1 :]])]
            enforcer = built(CompiledEnforcer, replace(each, rows=each.rows + added))
            for request, expected in zip(each.requests, before, strict=True):
                now = outcome(enforcer, request)
                if "raises" in (expected[0], now[0]):
                    continue
                moved[effect] += now[1] != expected[1]
                assert now[1] in (expected[1], effect == "allow"), f"seed {SEED}, world {number}, {request}"
    assert moved["deny"] > 0
    assert moved["allow"] > 0


class Alternating(Adapter):
    """Loads one of two policies in turn; in a mixture of both nobody may read anything."""

    turn = 0

    def load_policy(self, model):
        self.turn += 1
        name = "ab"[self.turn % 2]
        for number in range(20):
            load_policy_line(f"p, role_{name}, data{number}, read, {name}", model)
            load_policy_line(f"g, user{number}, role_{name}", model)


@pytest.mark.slow
def test_readers_never_see_a_mixture_while_the_policy_is_swapped() -> None:
    """8 threads ask while a ninth loads two policies in turn: every answer is one of the two policies'."""
    text = (
        "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act, version\n"
        "[role_definition]\ng = _, _\n[policy_effect]\ne = some(where (p.eft == allow))\n"
        "[matchers]\nm = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"
    )
    enforcer = CompiledEnforcer(CompiledEnforcer.new_model(text=text), Alternating())
    wrong: list[Any] = []
    seen: Counter[str] = Counter()
    stop = Event()

    def ask(number: int) -> None:
        place = number
        while not stop.is_set():
            place = (place + 1) % 20
            try:
                allowed, row = enforcer.enforce_ex(f"user{place}", f"data{place}", "read")
                denied = enforcer.enforce(f"user{place}", f"data{place}", "write")
            except Exception as error:  # noqa: BLE001 - any exception is what must not happen
                wrong.append(error)
                return
            if allowed is not True or denied is not False or row[0] != "role_" + row[3]:
                wrong.append((allowed, denied, row))
            seen[row[3] if row else "none"] += 1

    threads = [Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(SWAPS):
        enforcer.load_policy()
        enforcer.get_roles_for_user("user1")
    stop.set()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert min(seen["a"], seen["b"]) > 50
    assert "none" not in seen
