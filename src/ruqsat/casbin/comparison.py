"""The compiled set and stock pycasbin, asked the same; one difference refuses a pack."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice

from msgspec import Struct

from ruqsat.casbin.fact_rows import delegation_row, matrix_cells, provision_row, session_cells
from ruqsat.casbin.oracle import Oracle
from ruqsat.core.admission import WORLD, read_cases
from ruqsat.core.case import Case
from ruqsat.core.cases import Stage, read_world, situation
from ruqsat.core.emergency import session_row
from ruqsat.core.facts import PatientFacts, Provision
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import Situation, situations
from ruqsat.core.validity import refuse_invalid

SAMPLE = 400
"""How many made-up situations are compared, if the time suffices."""

SHOWN = 5
"""After so many differences it is settled."""


class Comparison(Struct, frozen=True):
    """How many answers were compared, and the differences in words."""

    compared: int
    differences: tuple[str, ...]


def compare(
    texts: Mapping[str, bytes], policy_set: PolicySet, seed: int, seconds: float, clock: Callable[[], float]
) -> Comparison:
    """
    Ask both engines the pack's cases, then a sample.

    Args:
        seed: Of the sample.
        seconds: The budget, from when both engines and the cases are ready; what was not asked by then is not compared.
        clock: Monotonic, in seconds.
    """
    oracle, cases = Oracle(texts, policy_set), tuple(_cases(texts, policy_set))
    began, compared = clock(), 0
    differences: list[str] = []
    for number, each in enumerate(chain(cases, islice(situations(policy_set, seed), SAMPLE))):
        if clock() - began > seconds or len(differences) >= SHOWN:
            break
        case = Case.of(*each)
        if refuse_invalid(case, policy_set.vocabulary) is None:
            compared += 1
            differences += _differences(number, case, policy_set, oracle)
    return Comparison(compared, tuple(differences[:SHOWN]))


def _cases(texts: Mapping[str, bytes], policy_set: PolicySet) -> Iterator[Situation]:
    files, _ = read_cases(texts)
    if any(files.values()):
        stage = Stage(read_world(texts, WORLD))
        for cases in files.values():
            for case in (case for case in cases if not case.switches):
                yield situation(policy_set, stage, case)


def _differences(number: int, case: Case, policy_set: PolicySet, oracle: Oracle) -> Iterator[str]:
    rule = policy_set.candidates_for(case).first(case)
    ours = (rule.allows, rule.id) if rule is not None else (False, None)
    try:
        theirs = oracle.decide(case)
    except Exception as error:  # noqa: BLE001 - whatever it raises is a difference: we answered
        yield f"question {number}: compiled {_said(ours)}, pycasbin fails: {type(error).__name__}"
        return
    if ours != theirs:
        yield f"question {number}: compiled {_said(ours)}, pycasbin {_said(theirs)}"
    for suffix, row, cells in _rows(number, case.facts.patient, policy_set):
        covered = policy_set.covers.test(suffix, case, row)[0] == ""
        if covered != oracle.covers(suffix, case, cells):
            yield f"question {number}: a row of p{suffix} covers in one engine and not in the other"


def _rows(
    number: int, patient: PatientFacts | None, policy_set: PolicySet
) -> Iterator[tuple[str, object, list[str]]]:  # fmt: skip
    for row in policy_set.matrix[number % len(policy_set.matrix) :][:1] if policy_set.matrix else ():
        yield "5", row, matrix_cells(row)
    if patient is None:
        return
    for grant in patient.grants:
        session = session_row(grant, policy_set.vocabulary.switches)
        yield "4", session, session_cells(session)
    for document in patient.consents:
        for node in _nodes(document.root):
            yield "2", node, provision_row(document.id, node)
    for link in patient.delegations:
        yield "3", link, delegation_row(link)


def _nodes(node: Provision) -> Iterator[Provision]:
    yield node
    for exception in node.exceptions:
        yield from _nodes(exception)


def _said(answer: tuple[bool, str | None]) -> str:
    return f"{'allows' if answer[0] else 'denies'} by `{answer[1] or 'no rule'}`"
