"""
Scenarios over HTTP: load a scenario's facts into a running sidecar, ask it over AuthZEN, three times.

*stale*: its memory still holds what the scenario before loaded; *warm*: asked
again, from memory; *cold*: loaded anew in another order, memory dropped, and
asked with the consistency token of the loading.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from ruqsat.core.conformance import (
    Outcome,
    Scenario,
    ScenarioFile,
    cannot_be_run,
    differences,
    shuffled,
    situation_of,
)
from ruqsat.core.decision import Decision
from ruqsat.core.facts import Facts
from ruqsat.core.instant import Now
from ruqsat.core.request import EvaluationRequest, RequestContext
from ruqsat.core.vocabulary import Switches
from ruqsat.errors import RequestError, RuqsatError
from ruqsat.web.wire import decode_answer

FIXTURES, EVALUATION = "/test/fixtures", "/access/v1/evaluation"
_JSON = {"content-type": "application/json"}


class SidecarError(RuqsatError):
    """What answers at the URL, if anything, is no sidecar that can be tried; the run ends."""

    code = "not-a-test-sidecar"


class Loaded(Struct, frozen=True):
    """What the sidecar answers to a loading."""

    token: str
    policy: str
    switches: Switches


class SidecarClient:
    """A sidecar that was started with ``--test-fixtures``, as a client sees it."""

    def __init__(self, client: httpx.Client) -> None:
        """Keep *client*, whose base is the JSON listener."""
        self._client = client
        self._known: dict[str, Loaded] = {}

    def rules(self, policy: Mapping[str, Any]) -> Loaded:
        """Return which rules and switches decide under these positions of switches."""
        key = repr(policy)
        if key not in self._known:
            self._known[key] = self._post({"policy": policy})
        return self._known[key]

    def load(self, scenario: Scenario, facts: Facts, now: Now, *, forget: bool = False) -> Loaded:
        """Let these facts, this moment and the scenario's switches be the whole truth."""
        return self._post(
            {
                # Of two entries of one id the last counts: whoever is asked about stands last.
                "subjects": [each for each in (facts.recipient, facts.subject) if each is not None],
                "patients": [each for each in (*facts.others, facts.patient) if each is not None],
                "now": now.hi, "policy": scenario.policy, "store_down": not facts.consents_known, "forget": forget,
            }
        )  # fmt: skip

    def ask(self, request: EvaluationRequest) -> Decision:
        """
        Ask for one evaluation.

        Raises:
            RequestError: the sidecar gives no answer to this request.
            SidecarError: it answers otherwise than a sidecar that shows exact reasons.
        """
        answer = self._send(EVALUATION, request)
        if answer.status_code != httpx.codes.OK:
            raise RequestError(f"the sidecar answers {answer.status_code}: {answer.text[:200]}")
        try:
            return decode_answer(answer.content)
        except RequestError as error:
            raise SidecarError(f"{self._client.base_url}: {error}") from None

    def _post(self, fixtures: Mapping[str, Any]) -> Loaded:
        answer = self._send(FIXTURES, fixtures)
        if answer.status_code == httpx.codes.BAD_REQUEST:
            raise RequestError(answer.text[:200])
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
            raise SidecarError(f"{self._client.base_url} takes no test fixtures: start it with `serve --test-fixtures`")
        if answer.status_code != httpx.codes.OK:
            raise SidecarError(f"{self._client.base_url} answers {answer.status_code} to test fixtures")
        try:
            return msgspec.json.decode(answer.content, type=Loaded)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise SidecarError(f"{self._client.base_url} does not answer to test fixtures as a sidecar does") from None

    def _send(self, path: str, body: object) -> httpx.Response:
        try:
            return self._client.post(path, content=msgspec.json.encode(body), headers=_JSON)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SidecarError(f"no answer from {self._client.base_url}: {str(error) or repr(error)}") from None


def run_over_http(sidecar: SidecarClient, file: ScenarioFile, dice: Random) -> list[Outcome]:
    """
    Ask every scenario in each state of the sidecar's memory, and compare.

    Raises:
        SidecarError: nobody answers, or somebody who cannot be tried.
    """
    return [_run(sidecar, file, scenario, dice) for scenario in file.scenarios]


def _run(sidecar: SidecarClient, file: ScenarioFile, scenario: Scenario, dice: Random) -> Outcome:
    try:
        answers = _answers(sidecar, file, scenario, dice)
    except SidecarError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever one scenario holds, the others are run
        return cannot_be_run(scenario, error)
    found = {state: differences(decision, scenario.expect) for state, decision in answers.items()}
    differed = tuple(state for state, each in found.items() if each)
    # What differs alike in several states is told once.
    alike: dict[str, list[str]] = {}
    for state, each in found.items():
        for difference in each:
            alike.setdefault(difference, []).append(state)
    told = tuple(f"{', '.join(states)}: {difference}" for difference, states in alike.items())
    return Outcome(scenario.id, scenario.title, answers[differed[0] if differed else "stale"], told, differed)


def _answers(sidecar: SidecarClient, file: ScenarioFile, scenario: Scenario, dice: Random) -> dict[str, Decision]:
    switches = sidecar.rules(scenario.policy).switches
    request, facts, now = situation_of(file, shuffled(scenario, dice), switches)
    sidecar.load(scenario, facts, now)
    stale, warm = sidecar.ask(request), sidecar.ask(request)
    _, facts, now = situation_of(file, shuffled(scenario, dice), switches)
    token = sidecar.load(scenario, facts, now, forget=True).token
    context = msgspec.structs.replace(request.context or RequestContext(), consistency_token=token)
    return {"stale": stale, "warm": warm, "cold": sidecar.ask(msgspec.structs.replace(request, context=context))}
