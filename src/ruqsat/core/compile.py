"""
Checked rows → a :class:`PolicySet`.

The matcher is taken apart once: what it compares through a function whose reach
is known becomes the index; what reads the index's key alone is settled once for
each combination of roles, action, class and purposes that is met; the rest, with
the row's condition in the place of ``eval(p.when)``, becomes generated code,
shared by all rows that read alike.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from ruqsat.core.case import ActionView, Case, ContextView, ResourceView, SubjectView
from ruqsat.core.cells import words
from ruqsat.core.coder import ENTITY_ARGUMENTS, Coder
from ruqsat.core.consent import ConsentAnswer, consent_answer, onward_answer
from ruqsat.core.covers import Cover, Covers
from ruqsat.core.delegation import delegation_answer
from ruqsat.core.emergency import break_glass_answer
from ruqsat.core.entitlement import EntitlementAnswer, MatrixRow, entitlement_answer
from ruqsat.core.expression import (
    All,
    Attribute,
    Call,
    Column,
    Compare,
    Const,
    Entity,
    EvalCell,
    Expression,
    Not,
    conjuncts,
    parse_expression,
    walk,
)
from ruqsat.core.expression import Any as Either
from ruqsat.core.function import Asking, Function
from ruqsat.core.laws import Law
from ruqsat.core.model_conf import Model, Section
from ruqsat.core.policy_set import CANDIDATES_KEPT, Guard, PolicySet, Rule, RuleTest
from ruqsat.core.representation import representation_answer
from ruqsat.core.rows import Row
from ruqsat.core.rule_index import IndexColumn, RuleIndex
from ruqsat.core.stated import request_type
from ruqsat.core.statutory import inspection_answer, request_answer
from ruqsat.core.vocabulary import Vocabulary

SECTION_FUNCTIONS = (
    "entitled", "granted", "refused", "held_back", "released_abroad", "released_to", "represents", "delegated",
    "break_glass", "requested", "inspected",
)  # fmt: skip
"""Functions that ask another section of the model; each takes the four entities."""

ROW_ATTRIBUTES = {
    "2": {
        "type": "effect",
        "since": "start",
        "until": "end",
        "purposes": "purposes",
        "grantees": "grantees",
        "acts": "actions",
        "classes": "categories",
        "records": "data_records",
        "authors": "data_authors",
        "encounters": "data_encounters",
        "codes": "data_codes",
        "data_from": "data_from",
        "data_until": "data_until",
        "conf": "conf",
        "labels": "labels",
    },
    "3": {
        "delegation": "id",
        "since": "start",
        "until": "end",
        "purposes": "purposes",
        "acts": "actions",
        "classes": "categories",
        "labels": "labels",
    },
    "4": {
        "grant": "grant",
        "subject": "subject",
        "since": "since",
        "until": "until",
        "acts": "acts",
        "classes": "classes",
    },
    "5": {"role": "role", "purpose": "purpose", "act": "act", "class": "class_"},
}
"""For each covering section: the attribute of a fact that a column reads."""

_NAMES = Call("names", (Entity("sub"), Column("grantees"), Column("type")))
"""The criterion by which a provision is of those whom it names."""

KEY = {("sub", "roles"), ("act", "name"), ("res", "data_class"), ("ctx", "purpose")}
"""Conditions that read these alone are settled once for each combination."""

RULE_ATTRIBUTES = {"role": "role", "act": "act", "class": "data_class", "purpose": "purpose"}
"""The columns of a rule that its gate reads."""

GUARDED_FROM = 16
"""From how many rules on that compare an attribute with a text it becomes part of the index's key."""


def compile_policy_set(
    digest: str,
    model: Model,
    rows: Iterable[Row],
    vocabulary: Vocabulary,
    laws: dict[str, Law],
    functions: dict[str, Function],
    hierarchies: Any,
) -> PolicySet:
    """Compile rows that :func:`ruqsat.core.check.check_pack` found no error in."""
    rows = tuple(rows)
    matrix = tuple(
        MatrixRow(row.text("role"), row.text("purpose"), row.text("act"), row.text("class"))
        for row in rows
        if row.kind == "p5"
    )
    covers = Covers({suffix: _cover(model.sections[suffix], functions) for suffix in ROW_ATTRIBUTES})
    answers = _answers(covers, matrix, vocabulary, hierarchies)
    asking: dict[str, Callable[..., bool]] = {name: _asking(name, answer) for name, answer in answers.items()}
    callables = {name: function.call for name, function in functions.items()} | asking
    builder = _RuleBuilder(model.sections[""], [row for row in rows if row.kind == "p"], vocabulary, callables)
    rules = builder.rules()
    return PolicySet(
        digest=digest,
        vocabulary=vocabulary,
        laws=laws,
        rules=rules,
        index=RuleIndex(rules, _index_columns(builder, functions)),
        gate=builder.gate,
        gate_tests=builder.gate_tests,
        guards=builder.guards,
        reads_present=reads_present(model.sections, map(builder.parse, {rule.condition for rule in rules})),
        covers=covers,
        matrix=matrix,
        hierarchies=hierarchies,
        functions=functions,
        answers=answers,
        section_functions=asking,
        callables=callables,
        request_type=request_type(vocabulary),
    )


def _answers(
    covers: Covers, matrix: tuple[MatrixRow, ...], vocabulary: Vocabulary, hierarchies: Any
) -> dict[str, Callable[[Case], Any]]:
    switches = vocabulary.switches

    def consent(case: Case) -> ConsentAnswer:
        return consent_answer(case, covers, switches)

    known: dict[tuple[object, ...], EntitlementAnswer] = {}

    def entitlement(case: Case) -> EntitlementAnswer:
        # The matrix reads the key alone, which the checker holds: one answer a combination.
        key = (case.sub.roles, case.act.name, case.res.data_class, case.ctx.purpose)
        answer = known.get(key)
        if answer is None:
            if len(known) >= CANDIDATES_KEPT:
                known.clear()
            answer = known[key] = entitlement_answer(case, covers, matrix)
        return answer

    return {
        "entitled": entitlement,
        "granted": consent,
        "refused": consent,
        "held_back": consent,
        "released_abroad": consent,
        "released_to": lambda case: onward_answer(case, covers, switches),
        "requested": lambda case: request_answer(case, hierarchies, switches),
        "inspected": lambda case: inspection_answer(case, hierarchies),
        "represents": lambda case: representation_answer(case, vocabulary),
        "delegated": lambda case: delegation_answer(case, covers, switches),
        "break_glass": lambda case: break_glass_answer(case, covers, switches),
    }


_CONSENT_SIDE = {"granted": "permits", "refused": "denials", "held_back": "unread", "released_abroad": "abroad"}


def answer_of(name: str, case: Case, answers: Mapping[str, Callable[[Case], Any]]) -> Any:
    """Return the section's answer for this case, worked out once."""
    kept = "consent" if name in _CONSENT_SIDE else name
    answer = case.ctx.worked_out.get(kept)
    if answer is None:
        answer = case.ctx.worked_out[kept] = answers[name](case)
    return answer


def applied_by(name: str, case: Case, answers: Mapping[str, Callable[[Case], Any]]) -> tuple[str, ...]:
    """Return the ids of the documents by which a section answered."""
    answer = answer_of(name, case, answers)
    applied: tuple[str, ...] = getattr(answer, _CONSENT_SIDE.get(name, "applied"))
    return applied


def _asking(name: str, answer: Callable[[Case], Any]) -> Asking:
    """Return the function that rules call: the section's yes or no, worked out once a case."""
    kept, side = ("consent", _CONSENT_SIDE[name]) if name in _CONSENT_SIDE else (name, "holds")

    def work_out(sub: SubjectView, act: ActionView, res: ResourceView, ctx: ContextView) -> Any:
        known = ctx.worked_out[kept] = answer(Case(sub, act, res, ctx, ctx.facts, ctx.now))
        return known

    return Asking(kept, side, work_out)


def reads_present(sections: Mapping[str, Section], conditions: Iterable[Expression]) -> bool:
    """
    Tell whether a matcher or a condition reads the present for anything else than the term of a document.

    If one does, a decision may change at a moment that no fact names, which no boundary of the facts foretells.
    """
    terms = [part for suffix in ("2", "3", "4") for part in conjuncts(sections[suffix].matcher)]
    others = [part for part in terms if not _is_term(part)]
    return any(
        isinstance(node, Attribute) and (node.entity, node.name) == ("ctx", "now")
        for part in (*others, sections[""].matcher, sections["5"].matcher, *conditions)
        for node in walk(part)
    )


def _is_term(part: Expression) -> bool:
    match part:
        case Call(function="in_force", arguments=(_, Column(name="since"), Column(name="until"), Column() | Const())):
            return True
    return False


def _cover(section: Section, functions: dict[str, Function]) -> Cover:
    """Compile a covering matcher; the checker has seen to it that every criterion is a call, gates first."""
    criteria = [part for part in conjuncts(section.matcher) if isinstance(part, Call)]
    known, arguments = [functions[part.function] for part in criteria], (*ENTITY_ARGUMENTS, "row")
    coder = Coder({name: f.call for name, f in functions.items()}, ROW_ATTRIBUTES[section.suffix])
    return Cover(
        coder.first_miss([_unless_idle(part, f) for part, f in zip(criteria, known, strict=True)], arguments),
        ("", *(function.miss for function in known)),
        sum(function.gate for function in known),
        _NAMES in criteria,
    )


def _unless_idle(call: Call, function: Function) -> Expression:
    """Return the call, spared where the row leaves empty all columns that it reads, if it is then true anyway."""
    columns = call.arguments[1:-1]
    if not function.idle or not all(isinstance(each, Column) for each in columns):
        return call
    return Either((All(tuple(Not(column) for column in columns)), call))


class _Condition(Struct, frozen=True):
    """What is made of one text of ``when``; rows with the same text share it."""

    settled: RuleTest
    residue: tuple[Expression, ...]
    asks: tuple[str, ...]


class _RuleBuilder:
    """
    Makes rules of rows, sharing whatever is alike.

    Attributes:
        gate: The part of the matcher that reads the key alone, over any rule.
        indexed: Its comparisons ``function(r.entity.attribute, p.column)``.
        guards: Attributes that many rules compare with a text.
    """

    def __init__(
        self, section: Section, rows: list[Row], vocabulary: Vocabulary, callables: Mapping[str, Callable[..., Any]]
    ) -> None:
        self._rows = sorted(rows, key=lambda row: int(row.text("priority")))
        self._blocking = {name for name, duty in vocabulary.duties.items() if duty.blocking}
        self._review_hours = vocabulary.switches.btg.review_within_hours
        self._callables = callables
        gate = [part for part in conjuncts(section.matcher) if _is_gate(part)]
        self._rest = [part for part in conjuncts(section.matcher) if not _is_gate(part)]
        self._own_columns = sorted({n.name for part in self._rest for n in walk(part) if isinstance(n, Column)})
        self.gate = self._over_rule(gate)
        self.gate_tests = tuple((_column(part), self._over_rule([part])) for part in gate)
        self.indexed = [part for part in gate if isinstance(part, Call)]
        self._parsed: dict[str, Expression] = {}
        self.guards = self._find_guards()
        self._conditions: dict[tuple[str, ...], _Condition] = {}
        self._shared: dict[str, str] = {}

    def _over_rule(self, parts: list[Expression]) -> Callable[..., bool]:
        return Coder(self._callables, RULE_ATTRIBUTES).function(_all(parts), (*ENTITY_ARGUMENTS, "row"))

    def rules(self) -> tuple[Rule, ...]:
        """Return the rules in order of precedence."""
        return tuple(self._rule(row) for row in self._rows)

    def _rule(self, row: Row) -> Rule:
        share = self._share
        condition = self._condition(row)
        duties = tuple([self._due(duty) for duty in words(row.text("duties"))])
        return Rule(
            priority=int(row.text("priority")),
            id=row.text("id"),
            allows=row.text("eft") == "allow",
            ground=share(row.text("basis")),
            duties=duties,
            blocking=frozenset(duty for duty in duties if duty.partition(":")[0] in self._blocking) or _NO_DUTIES,
            law=words(row.text("law")),
            asks=condition.asks,
            role=share(row.text("role")),
            act=share(row.text("act")),
            data_class=share(row.text("class")),
            purpose=share(row.text("purpose")),
            settled=condition.settled,
            residue=condition.residue,
            condition=share(row.text("when")),
        )

    def _due(self, duty: str) -> str:
        """Return the duty; a ``review`` that says no hours gets those of the switch ``btg.review_within_hours``."""
        return f"review:{self._review_hours}" if duty == "review" else duty

    def _share(self, text: str) -> str:
        return self._shared.setdefault(text, text)

    def parse(self, text: str) -> Expression:
        """Return the expression of a condition; alike ones share it."""
        parsed = self._parsed.get(text)
        if parsed is None:
            parsed = self._parsed[text] = parse_expression(text)
        return parsed

    def _find_guards(self) -> tuple[Guard, ...]:
        counts: Counter[tuple[str, str]] = Counter()
        constants: dict[tuple[str, str], set[str]] = {}
        for row in self._rows:
            for attribute, constant in equalities(conjuncts(self.parse(row.text("when")))):
                counts[attribute] += 1
                constants.setdefault(attribute, set()).add(constant)
        return tuple(
            Guard(entity, name, frozenset(constants[entity, name]))
            for (entity, name), count in sorted(counts.items())
            if count >= GUARDED_FROM and (entity, name) not in KEY
        )

    def _condition(self, row: Row) -> _Condition:
        columns = ("when", *self._own_columns)
        cells = tuple([row.text(column) for column in columns])
        known = self._conditions.get(cells)
        if known is None:
            known = self._conditions[cells] = self._make_condition(dict(zip(columns, cells, strict=True)))
        return known

    def _make_condition(self, cells: dict[str, str]) -> _Condition:
        parts = [part for rest in self._rest for part in conjuncts(inline(rest, cells))]
        guarded = {(guard.entity, guard.name) for guard in self.guards}
        settled = [part for part in parts if _reads(part) <= KEY or _is_equality(part, guarded)]
        residue = tuple(part for part in parts if part not in settled)
        return _Condition(
            Coder(self._callables, {}).function(_all(settled), ENTITY_ARGUMENTS),
            residue if residue else (Const(True),),
            tuple(
                node.function
                for part in parts
                for node in walk(part)
                if isinstance(node, Call) and node.function in SECTION_FUNCTIONS
            ),
        )


_NO_DUTIES: frozenset[str] = frozenset()


def equalities(parts: Iterable[Expression]) -> list[tuple[tuple[str, str], str]]:
    """Return the comparisons ``r.entity.attribute == 'text'`` among *parts*."""
    found = []
    for part in parts:
        match part:
            case (
                Compare(op="==", left=Attribute(entity=entity, name=name), right=Const(value=str() as text))
                | Compare(op="==", right=Attribute(entity=entity, name=name), left=Const(value=str() as text))
            ):
                found.append(((entity, name), text))
    return found


def _is_equality(part: Expression, attributes: set[tuple[str, str]]) -> bool:
    return any(attribute in attributes for attribute, _ in equalities([part]))


def _column(part: Expression) -> str:
    """Return the column of the row that a part of the gate reads."""
    return next((node.name for node in walk(part) if isinstance(node, Column)), "")


def _is_gate(part: Expression) -> bool:
    """Tell whether a conjunct of the matcher reads nothing but the key and a rule's own attributes."""
    nodes = list(walk(part))
    own = all(node.name in RULE_ATTRIBUTES for node in nodes if isinstance(node, Column))
    return own and not any(isinstance(node, EvalCell) for node in nodes) and _reads(part) <= KEY


def _index_columns(builder: _RuleBuilder, functions: dict[str, Function]) -> list[IndexColumn]:
    """Return what rules are found by: comparisons whose reach is known, and guards."""
    columns = []
    for call in builder.indexed:
        match call.arguments:
            case (Attribute(entity=entity, name=name), Column(name=column)):
                function = functions.get(call.function)
                if function is not None and function.reach is not None:
                    columns.append(_cell_column(entity, name, RULE_ATTRIBUTES[column], function.reach))
    return [*columns, *(_guard_column(guard, builder) for guard in builder.guards)]


def _cell_column(entity: str, name: str, cell: str, reach: Callable[[Any], Iterable[str]]) -> IndexColumn:
    return IndexColumn(
        lambda rule: words(getattr(rule, cell)), lambda case: reach(getattr(getattr(case, entity), name))
    )


def _guard_column(guard: Guard, builder: _RuleBuilder) -> IndexColumn:
    def words_of(rule: Rule) -> tuple[str, ...] | None:
        parsed = conjuncts(builder.parse(rule.condition))
        found = tuple(text for attribute, text in equalities(parsed) if attribute == (guard.entity, guard.name))
        return found[:1] or None

    return IndexColumn(words_of, lambda case: (str(getattr(getattr(case, guard.entity), guard.name)),))


def _all(parts: list[Expression]) -> Expression:
    return All(tuple(parts)) if parts else Const(True)


def inline(expression: Expression, cells: Mapping[str, str]) -> Expression:
    """Put the row's cells in the place of its columns and of ``eval(p.when)`` the condition; flatten ``&&``."""
    match expression:
        case EvalCell(column=column):
            return parse_expression(cells[column])
        case Column(name=name):
            return Const(cells[name])
        case All(operands=operands):
            return All(tuple(part for operand in operands for part in conjuncts(inline(operand, cells))))
        case Either(operands=operands):
            return Either(tuple(inline(operand, cells) for operand in operands))
        case Not(operand=operand):
            return Not(inline(operand, cells))
        case Compare(op=op, left=left, right=right):
            return Compare(op, inline(left, cells), inline(right, cells))
        case Call(function=function, arguments=arguments):
            return Call(function, tuple(inline(argument, cells) for argument in arguments))
        case _:
            return expression


def _reads(expression: Expression) -> set[tuple[str, str]]:
    """
    Return what of the request an expression reads; a whole entity counts as ``(entity, "*")``.

    The role matrix reads the index's own key and nothing else, which the checker holds.
    """
    reads: set[tuple[str, str]] = set()
    if isinstance(expression, Not):
        return _reads(expression.operand)
    if isinstance(expression, Call) and expression.function == "entitled":
        return KEY
    for node in walk(expression):
        if isinstance(node, Attribute):
            reads.add((node.entity, node.name))
        elif isinstance(node, Entity):
            reads.add((node.name, "*"))
    return reads
