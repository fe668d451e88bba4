"""
A second decider, of stock pycasbin: what Casbin itself decides with this pack.

It imports neither the compiler nor the evaluator.  pycasbin reads the pack, and
answers section ``p`` and, one row at a time, every further section.  It is
written from the product's promise and shares with it the words and their
functions, layer 0, and the rules by which rows, documents and parts combine,
which no matcher can say.  Slow, and meant to be: it is compared with the product.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ruqsat.casbin.stock import Stock
from ruqsat.casbin.stock_covers import stock_covers
from ruqsat.core.boundaries import moments
from ruqsat.core.case import ActionView, Case, ContextView, ResourceView, SubjectView
from ruqsat.core.cells import words
from ruqsat.core.consent import consent_answer, onward_answer
from ruqsat.core.decision import Decision, deny
from ruqsat.core.delegation import delegation_answer
from ruqsat.core.emergency import break_glass_answer
from ruqsat.core.entitlement import MatrixRow, entitlement_answer
from ruqsat.core.facts import Facts
from ruqsat.core.functions import build_functions
from ruqsat.core.hierarchy import Hierarchies
from ruqsat.core.instant import Now, at
from ruqsat.core.parts import decide_parts
from ruqsat.core.representation import representation_answer
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.scopes import read_coded
from ruqsat.core.statutory import inspection_answer, request_answer
from ruqsat.core.validity import refuse_invalid
from ruqsat.core.vocabulary import parse_vocabulary, with_kinds, with_switches

VOCABULARY, ROUTES = "policies/vocabulary.toml", "policies/routes.toml"

ASKED = {
    "entitled": ("entitlement", "holds", "applied"),
    "granted": ("consent", "permits", "permits"),
    "refused": ("consent", "denials", "denials"),
    "held_back": ("consent", "unread", "unread"),
    "released_abroad": ("consent", "abroad", "abroad"),
    "released_to": ("onward", "holds", "applied"),
    "represents": ("representation", "holds", "applied"),
    "delegated": ("delegation", "holds", "applied"),
    "break_glass": ("break_glass", "holds", "applied"),
    "requested": ("request", "holds", "applied"),
    "inspected": ("inspection", "holds", "applied"),
}
"""What a condition may ask: whose answer, which part of it is the yes or no, and which names the documents."""

TOLD_BY = {
    "role": "entitlement", "rep": "representation", "delegation": "delegation", "btg": "break_glass",
    "statutory": "request",
}  # fmt: skip
"""Who tells the reason of a denial that reads ``topic.*``."""

_CALL = re.compile(r"\b(\w+)\(")


class OracleDecider:
    """
    Stock pycasbin over one pack, as a whole decider; not for threads.

    Args:
        texts: The pack's files; a pack that the checker admits.
        switches: Positions of the vocabulary's switches that differ.

    Raises:
        ValueError: the vocabulary cannot be read.
        msgspec.ValidationError: there is no such switch, or no such position.
    """

    def __init__(self, texts: Mapping[str, bytes], switches: Mapping[str, Any] | None = None) -> None:
        vocabulary, findings = parse_vocabulary(texts[VOCABULARY].decode(), VOCABULARY)
        if vocabulary is None:
            raise ValueError(findings[0].message)
        coded = read_coded(texts.get(ROUTES, b"").decode(errors="replace"))
        vocabulary = msgspec.structs.replace(vocabulary, coded=coded)
        self._stock = Stock(texts)
        hierarchies = Hierarchies(self._stock.links())
        self._vocabulary = with_kinds(with_switches(vocabulary, switches or {}), hierarchies.labels)
        self._functions = build_functions(self._vocabulary, hierarchies)
        self._stock.register({name: function.call for name, function in self._functions.items()})
        self._stock.register({name: self._asking(name) for name in ASKED})
        self._answers = self._sections(hierarchies)

    def decide(
        self, request: EvaluationRequest, facts: Facts, now: Now, capabilities: frozenset[str] = frozenset()
    ) -> Decision:
        """
        Decide one request.

        Args:
            request: What the caller asks.
            facts: What the store knows of the subject and the patient.
            now: The present moment, as an interval: a permit holds at every moment of it.
            capabilities: Blocking duties that the enforcement point can carry out.

        Raises:
            Exception: whatever pycasbin raises; nothing may then be permitted.
        """
        properties = request.resource.properties
        if properties is not None and properties.parts is not None:
            return decide_parts(
                request, facts, capabilities, lambda one, known: self.decide(one, known, now, capabilities)
            )
        duties: list[str] = []
        decision = deny("deny.error.time")
        for moment in moments(facts, now, self._vocabulary.switches):
            decision = self._decide_at(Case.of(request, facts, at(moment)), capabilities)
            if not decision.allowed:
                return decision
            duties += decision.duties
        return msgspec.structs.replace(decision, duties=tuple(dict.fromkeys(duties)))

    def _decide_at(self, case: Case, capabilities: frozenset[str]) -> Decision:
        refusal = refuse_invalid(case, self._vocabulary)
        if refusal is not None:
            return refusal
        allowed, row = self._stock.first_rule(case)
        if not row:
            return self._silence(case)
        law, applied = words(row["law"]), self._applied(row, case)
        if not allowed:
            return Decision(False, self._denial(row, case), None, row["id"], law, (), applied)
        hours = self._vocabulary.switches.btg.review_within_hours
        duties = tuple(f"review:{hours}" if duty == "review" else duty for duty in _duties(row, case))
        untold = tuple(
            duty for duty in words(row["duties"]) if duty.startswith("notify_subject") and duty not in duties
        )
        if not self._blocking(duties) <= capabilities:
            return Decision(False, "deny.obligation.unsupported", None, row["id"], law, (), applied)
        return Decision(True, self._permit(row, case), row["basis"], row["id"], law, duties, applied, untold)

    def _permit(self, row: Mapping[str, str], case: Case) -> str:
        if row["basis"] == "public":
            return f"allow.{case.res.data_class}"
        return self._vocabulary.bases[row["basis"]].reason

    def _denial(self, row: Mapping[str, str], case: Case) -> str:
        topic = row["basis"].removesuffix(".*")
        if topic == row["basis"]:
            return f"deny.{topic}"
        return f"deny.{self._answer(TOLD_BY[topic], case).miss or topic + '.none'}"

    def _applied(self, row: Mapping[str, str], case: Case) -> tuple[str, ...]:
        """Return the ids of the documents behind each section that the rule's condition asks, whatever it answered."""
        asked = [ASKED[name] for name in _CALL.findall(row["when"]) if name in ASKED]
        return tuple(sorted({each for who, _, part in asked for each in getattr(self._answer(who, case), part)}))

    def _blocking(self, duties: tuple[str, ...]) -> set[str]:
        known = self._vocabulary.duties
        # What the product itself adds need not be a word of the pack, and blocks nothing.
        words_of = {duty: known.get(duty.partition(":")[0]) for duty in duties}
        return {duty for duty, word in words_of.items() if word is not None and word.blocking}

    def _silence(self, case: Case) -> Decision:
        """Return the denial where no row matched (order §14), with the nearest miss of a consent as its reason."""
        consent = self._answer("consent", case)
        if consent.permits:
            known = self._functions["is_cared_for"].call(case.ctx)
            return deny("deny.default" if known else "deny.relationship.none", law=("R14",))
        urgent = not {"ETREAT", "ERTREAT"}.isdisjoint(case.ctx.purpose)
        if urgent and consent.miss == "consent.none" and not case.ctx.emergency:
            return deny("deny.emergency.no_context", law=("R4",))
        return Decision(False, "deny." + consent.miss, None, None, ("R14",), (), consent.missed_by)

    def _sections(self, hierarchies: Hierarchies) -> dict[str, Callable[[Case], Any]]:
        """Return how rows combine, by section; whether one covers, pycasbin says."""
        switches = self._vocabulary.switches
        covers = stock_covers(self._stock, self._functions)
        matrix = tuple(
            MatrixRow(row["role"], row["purpose"], row["act"], row["class"]) for row in self._stock.rows("p5")
        )
        return {
            "entitlement": lambda case: entitlement_answer(case, covers, matrix),
            "consent": lambda case: consent_answer(case, covers, switches),
            "onward": lambda case: onward_answer(case, covers, switches),
            "representation": lambda case: representation_answer(case, self._vocabulary),
            "delegation": lambda case: delegation_answer(case, covers, switches),
            "break_glass": lambda case: break_glass_answer(case, covers, switches),
            "request": lambda case: request_answer(case, hierarchies, switches),
            "inspection": lambda case: inspection_answer(case, hierarchies),
        }

    def _answer(self, section: str, case: Case) -> Any:
        known = case.ctx.worked_out
        if section not in known:
            known[section] = self._answers[section](case)
        return known[section]

    def _asking(self, name: str) -> Callable[..., bool]:
        section, part, _ = ASKED[name]

        def ask(sub: SubjectView, act: ActionView, res: ResourceView, ctx: ContextView) -> bool:
            return bool(getattr(self._answer(section, Case(sub, act, res, ctx, ctx.facts, ctx.now)), part))

        return ask


def _duties(row: Mapping[str, str], case: Case) -> tuple[str, ...]:
    """Return the row's duties: notices only to a patient with a cabinet, and encryption for what leaves the country."""
    patient, there = case.facts.patient, case.ctx.destination_country
    reachable = patient is not None and patient.egov
    duties = tuple(duty for duty in words(row["duties"]) if reachable or not duty.startswith("notify_subject"))
    return duties if there in (None, "KZ") else (*duties, "encrypt_transit")
