"""What an evaluation costs by the number of rules: ``core.evaluate`` on a world's questions, no HTTP, no journal."""

import gc
import statistics
import time
from typing import Any

import msgspec
from bench.shared_world import SharedWorld
from bench.world import Written
from bench.worlds import ClinicWorld

from ruqsat.core.request import EvaluationRequest

SCALES = (1, 10, 100, 300, 3_030)
QUESTIONS, AGAIN = 500, 4


def cost_by_rules(rounds: int) -> list[dict[str, Any]]:
    """
    Return a record for each world and scale, with the microseconds of an evaluation in every round.

    The scales of a world are timed in turns, so that a machine that slows down slows them all.
    """
    found = []
    for name, worlds in (
        ("clinic", {n: ClinicWorld(1, n, 1_000) for n in SCALES}),
        ("shared", {n: SharedWorld(1, n) for n in SCALES}),
    ):
        prepared = {n: _prepared(world) for n, world in worlds.items()}
        times: dict[int, list[float]] = {n: [] for n in worlds}
        for number in range(rounds + 1):
            for n, (world, asked) in prepared.items():
                took = _microseconds(world, asked)
                times[n] += [took] if number else []
        for n, (world, _) in prepared.items():
            found.append({
                "name": "ruqsat", "scenario": "evaluate_by_rules", "world": name, "scale": n, "wrong": 0,
                "rules": len(world.policy_set.rules), "evaluate_us": statistics.median(times[n]), "runs": times[n],
                "connections": None, "journal": None,
            })  # fmt: skip
    return found


Asked = list[tuple[EvaluationRequest, Any]]


def _prepared(world: Written) -> tuple[Written, Asked]:
    questions = list(world.questions(QUESTIONS, "rules"))
    kind = world.policy_set.request_type
    return world, [(msgspec.json.decode(each.body, type=kind), world.facts_of(each)) for each in questions]


def _microseconds(world: Written, asked: Asked) -> float:
    gc.collect()
    gc.disable()
    best = []
    for _ in range(AGAIN):
        began = time.process_time()
        for request, facts in asked:
            world.decide(request, facts)
        best.append(time.process_time() - began)
    gc.enable()
    return statistics.median(best) / len(asked) * 1e6
