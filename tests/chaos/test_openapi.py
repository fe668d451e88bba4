"""
Whatever its own description allows, and much that it does not, is sent to the control API of a real process.

`RUQSAT_TEST_LONGER` multiplies the examples, `RUQSAT_TEST_SEED` repeats a run.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.chaos.fleet import DESK, Tokens
from tests.process.starter import Sidecar, serving
from tests.registry.documents import CHECKED, consent, verified

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(2**32))))
EXAMPLES = 8 if LONGER == 1 else 50 * LONGER
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
BUSY = ("try_later", "store-unavailable")
PEOPLE: dict[str, dict[str, Any]] = {
    "desk": DESK,
    "patient": {"sub": "dana", "roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
    "physician": {"sub": "dr_aida", "roles": ["physician"], "org": "h1", "purpose_of_use": "TREAT"},
}


class Api:
    """A process, its description, and what it has answered."""

    def __init__(self, sidecar: Sidecar, tokens: Tokens) -> None:
        self.base = f"http://{sidecar.addresses['control']}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.callers = [*(tokens.bearer(claims) for claims in PEOPLE.values()), {}]
        self.described = self.session.get(f"{self.base}/openapi.json", timeout=20).json()
        self.text = json.dumps(self.described)
        self.operations = [each.ok() for each in schemathesis.openapi.from_dict(self.described).get_all_operations()]
        self.answers: Counter[tuple[str, int]] = Counter()
        self.busy = 0
        self.records = [self._record(document) for document in [verified(), consent()] * 6]

    def _record(self, document: dict[str, Any]) -> str:
        url = f"{self.base}/v1/consents"
        return str(self.session.post(url, json=document, headers=self.callers[0], timeout=20).json()["consent"])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A process for everything; what it is told to do there hurts nobody."""
    tokens = Tokens()
    with serving(tmp_path_factory.mktemp("api"), auth_listen="off", journal="lossy", **tokens.settings) as sidecar:
        api = Api(sidecar, tokens)
        yield api
        api.session.close()
        assert sidecar.process.poll() is None


def leaves(value: Any) -> Iterator[str]:
    """Yield every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(name)
            yield from leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part)


def echoed(api: Api, case: Case, answer: str) -> list[str]:
    """Return what came back of what was sent and is no word of the description."""
    sent = [*leaves(case.body), *leaves(dict(case.query or {})), *leaves(dict(case.path_parameters or {}))]
    return [text for text in sent if len(text) > 7 and text in answer and text not in api.text]


def steer(api: Api, case: Case, chance: random.Random) -> None:
    """Let some of what was drawn at random meet what there is, so that calls get beyond the first refusal."""
    if case.path_parameters and "consent" in case.path_parameters and chance.random() < 0.5:
        case.path_parameters["consent"] = chance.choice(api.records)
    if case.query and "patient" in case.query and chance.random() < 0.7:
        case.query["patient"] = "p-dana"
    if isinstance(case.body, dict) and "effect" in case.body:
        # A draft to be verified, or a whole consent, with a little of what was drawn.
        if chance.random() < 0.5:
            case.body["patient"] = "p-dana"
        if chance.random() < 0.3:
            case.body = chance.choice((consent(), verified())) | {
                name: value for name, value in case.body.items() if chance.random() < 0.2
            }
    if case.operation.path.endswith("/verify") and chance.random() < 0.5:
        case.body = {"signature": CHECKED}
    headers = {name.lower(): value for name, value in dict(case.headers or {}).items()}
    if chance.random() < 0.6:
        headers["if-match"] = f'"{chance.randint(1, 2)}"'
    if chance.random() < 0.6:
        headers.pop("idempotency-key", None)
    case.headers.clear()
    case.headers.update(headers)


def ask(api: Api, case: Case, chance: random.Random) -> None:
    """Send one case, as somebody or as nobody, and check the answer."""
    steer(api, case, chance)
    headers = chance.choice(api.callers)
    answer = case.call(base_url=api.base, session=api.session, headers=headers, timeout=30)
    api.answers[case.operation.label, answer.status_code] += 1
    body = answer.text
    if answer.status_code == 503 and answer.json()["title"] in BUSY:
        api.busy += 1
    else:
        assert answer.status_code < 500 or case.operation.path == "/health/ready", body
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code >= 400 and case.operation.path != "/health/ready":
        assert answer.headers["content-type"] == ["application/problem+json"], body
        problem = answer.json()
        assert problem["status"] == answer.status_code
        # `type` and `title` are words of a closed list; what was drawn may be a piece of one.
        told = {name: value for name, value in problem.items() if name not in ("type", "title")}
        assert echoed(api, case, json.dumps(told, ensure_ascii=False)) == []


@pytest.mark.slow
@pytest.mark.timeout(300 * LONGER)
def test_every_operation_answers_as_it_is_described(api: Api) -> None:
    """No failure of ours, no answer that is not described, problem documents for refusals, and nothing sent comes back."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    for operation in api.operations:
        has_input = any((operation.body, operation.query, operation.path_parameters, operation.headers))
        for mode in GenerationMode:
            if mode is GenerationMode.NEGATIVE and not has_input:
                continue

            @seed(SEED)
            @settings(
                max_examples=EXAMPLES if has_input else 3, deadline=None, database=None, print_blob=True,
                phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(case=operation.as_strategy(mode), chance=st.randoms(use_true_random=False))
            def each(case: Case, chance: random.Random) -> None:
                ask(api, case, chance)

            each()
    print(dict(api.answers))
    statuses = {status for _, status in api.answers}

    assert len({label for label, _ in api.answers}) == len(api.operations)
    assert {200, 201, 401, 403, 422} <= statuses
    assert api.busy <= 0.02 * sum(api.answers.values())
