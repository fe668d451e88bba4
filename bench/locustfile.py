"""
Load on a running sidecar with the demo world, in named shapes.

    make run                                             # in one terminal
    make bench-locust                                    # in another: shape steady_reads, 30 s
    .venv/bin/locust -f bench/locustfile.py --host http://127.0.0.1:8181        # with Locust's own page

A wrong decision counts as a failure, whatever its speed.  Locust saturates its own core
long before the sidecar does; the hot path itself is measured by ``make bench-quick``.
"""

import os
import random

from locust import LoadTestShape, between, task
from locust.contrib.fasthttp import FastHttpUser

SHAPE = "steady_reads"
SECONDS = int(os.environ.get("BENCH_SECONDS", "30"))
USERS = int(os.environ.get("BENCH_USERS", "32"))
SEED = int(os.environ.get("BENCH_SEED", "20210623"))
EVALUATION = "/access/v1/evaluation"

QUESTIONS = (
    # weight, subject, record, class, patient, purpose, the decision that is right
    (70, "dr_aida", "o1", "labs", "p-dana", "TREAT", True),
    (10, "dr_aida", "o2", "labs", "p-dana", "TREAT", False),
    (10, "dr_erlan", "o1", "labs", "p-dana", "TREAT", False),
    (5, "dana", "o2", "labs", "p-dana", "PATRQT", True),
    (5, "admin_timur", "o1", "labs", "p-dana", "HSYSADMIN", False),
)
_chance = random.Random(SEED)


class SteadyReads(LoadTestShape):
    """``steady_reads``: users come within five seconds and read at a steady rate until the end."""

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are now, and how fast they come."""
        return (USERS, USERS / 5) if self.get_run_time() < SECONDS else None


class Clinic(FastHttpUser):
    """A clinic's enforcement point: mostly its own patients, now and then somebody who may not."""

    wait_time = between(0.001, 0.005)
    weights = tuple(question[0] for question in QUESTIONS)

    @task
    def ask(self) -> None:
        """Ask one evaluation, and compare the decision."""
        _, subject, record, data_class, patient, purpose, right = _chance.choices(QUESTIONS, self.weights)[0]
        body = {
            "subject": {"type": "user", "id": subject},
            "action": {"name": "read"},
            "resource": {"type": "Record", "id": record, "properties": {"patient": patient, "class": data_class}},
            "context": {"purpose": purpose},
        }
        name = f"{SHAPE}: {'allow' if right else 'deny'}"
        with self.client.post(EVALUATION, json=body, name=name, catch_response=True) as response:
            if response.status_code != 200 or response.json()["decision"] is not right:
                response.failure("wrong decision")
