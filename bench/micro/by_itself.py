"""
What an evaluation costs by itself: ``core.evaluate`` on the shipped pack, no HTTP, no journal.

Microseconds do not travel between machines, and so stock pycasbin goes through an access list of 100 rules in the
same rounds: where the design measured what it owes, that took it 150 µs.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.micro.worlds import common_question, compiled, pack_of

import casbin
from ruqsat.core.admission import WORLD, read_cases
from ruqsat.core.cases import read_world, situation
from ruqsat.core.evaluate import evaluate
from ruqsat.core.instant import at

RULES, CALIBRATION_US = 100, 150
"""Of the access list, and what stock pycasbin took for it where 6 and 15 µs are owed."""

ACCESS_LIST = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.obj == p.obj && r.act == p.act
"""


def cost_by_itself(rounds: int) -> list[dict[str, Any]]:
    """Return one record: the common question and the dearest of the pack's own cases, beside stock pycasbin."""
    texts = pack_of(0, "roles")
    policy_set = compiled(texts)
    request, facts = common_question(texts, policy_set)
    now = at(int(time.time() * 1_000_000))
    assert evaluate(policy_set, request, facts, now).allowed
    world, (files, _) = read_world(texts, WORLD), read_cases(texts)
    asked = [(each.name, situation(policy_set, world, each)) for cases in files.values() for each in cases]
    stock = _access_list()
    found: list[dict[str, float]] = []
    for number in range(rounds + 1):
        met = {
            "pycasbin": _microseconds(lambda: stock.enforce(f"s{RULES - 1}", "o", "read"), 200),
            "common": _microseconds(lambda: evaluate(policy_set, request, facts, now), 4_000),
        }
        met |= {name: _microseconds(lambda a=each: evaluate(policy_set, *a), 200) for name, each in asked}
        found += [met] if number else []
    times = {name: statistics.median(each[name] for each in found) for name in found[0]}
    shares = {name: statistics.median(each[name] / each["pycasbin"] for each in found) for name in found[0]}
    dearest = max((name for name, _ in asked), key=lambda name: shares[name])
    return [
        {"name": "ruqsat", "scenario": "evaluate_alone", "wrong": 0, "cases": len(asked), "dearest": dearest,
         "pycasbin_us": times["pycasbin"], "common_us": times["common"], "dearest_us": times[dearest],
         "common_as_owed_us": shares["common"] * CALIBRATION_US, "dearest_as_owed_us": shares[dearest] * CALIBRATION_US,
         "runs": [{"pycasbin": each["pycasbin"], "common": each["common"]} for each in found]},
    ]  # fmt: skip


def _access_list() -> casbin.Enforcer:
    model = casbin.Model()
    model.load_model_from_text(ACCESS_LIST)
    stock = casbin.Enforcer(model)
    stock.add_policies([[f"s{number}", "o", "read"] for number in range(RULES)])
    assert stock.enforce(f"s{RULES - 1}", "o", "read")
    assert not stock.enforce(f"s{RULES}", "o", "read")
    return stock


def _microseconds(call: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times * 1e6
