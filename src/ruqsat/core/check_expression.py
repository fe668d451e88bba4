"""What can be known of an expression from its text: every name in it, and what it may not find."""

from collections.abc import Iterator, Mapping

from ruqsat.core.compile import SECTION_FUNCTIONS
from ruqsat.core.diagnostics import nearest
from ruqsat.core.expression import (
    ENTITIES,
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
    children,
    walk,
)
from ruqsat.core.expression import Any as Either
from ruqsat.core.function import Function
from ruqsat.core.vocabulary import Vocabulary

_HOLDS = {
    ("sub", "roles"): ("role", "roles"), ("act", "name"): ("action", "actions"), ("res", "labels"): ("word", "labels"),
    ("res", "data_class"): ("class", "classes"), ("ctx", "purpose"): ("purpose", "purposes"),
}  # fmt: skip
"""Attributes that hold words of the vocabulary: what a word is called, and the table that lists them."""

Finding = tuple[str, str, str, Expression]
"""Code, message, hint, and the part of the expression that is meant."""


def check_expression(
    expression: Expression, vocabulary: Vocabulary, functions: Mapping[str, Function], columns: set[str]
) -> Iterator[Finding]:
    """Yield (code, message, hint, node) for every name that does not exist, and every value in a wrong place."""
    yield from _yes_or_no(expression, vocabulary)
    guarded = {id(node) for node in _guarded(expression, frozenset())}
    for node in walk(expression):
        match node:
            case Attribute(entity=entity, name=name):
                known = vocabulary.attributes.get(entity, {})  # type: ignore[call-overload]
                if name not in known:
                    yield (
                        "unknown-attribute",
                        f"`r.{entity}.{name}` is not in vocabulary.toml",
                        nearest(name, known) or f"`[attributes.{entity}]` of the vocabulary lists them",
                        node,
                    )
                elif known[name].optional and id(node) not in guarded:
                    yield (
                        "unguarded-attribute",
                        f"`r.{entity}.{name}` may be absent",
                        f"start with `is_known(r.{entity}, '{name}') &&`",
                        node,
                    )
            case Call(function="is_known", arguments=(Entity(name=entity), Const(value=str() as name))) if (
                name not in vocabulary.attributes.get(entity, {})  # type: ignore[call-overload]
            ):
                known = vocabulary.attributes.get(entity, {})  # type: ignore[call-overload]
                hint = nearest(name, known) or f"`[attributes.{entity}]` of the vocabulary lists them"
                yield ("unknown-attribute", f"`r.{entity}.{name}` is not in vocabulary.toml", hint, node)
            case Call(function=name, arguments=arguments):
                yield from _call(name, arguments, functions, node)
            case Compare():
                yield from _comparison(node, vocabulary)
                yield from _words(node, vocabulary)
            case Column(name=name) | EvalCell(column=name) if name not in columns:
                hint = nearest(name, columns) or "only the section's own columns are read in a matcher, none in a rule"
                yield ("unknown-column", f"`p.{name}` is no column that may be read here", hint, node)
            case _:
                pass


def _guarded(expression: Expression, known: frozenset[tuple[str, object]]) -> Iterator[Expression]:
    """Yield every attribute that is read only after an `is_known` of it, joined by `&&`, has been true."""
    match expression:
        case All(operands=operands):
            for part in operands:
                yield from _guarded(part, known)
                match part:
                    case Call(function="is_known", arguments=(Entity(name=entity), Const(value=name))):
                        known |= {(entity, name)}
        case Attribute(entity=entity, name=name) if (entity, name) in known:
            yield expression
        case _:
            for part in children(expression):
                yield from _guarded(part, known)


def _yes_or_no(expression: Expression, vocabulary: Vocabulary) -> Iterator[Finding]:
    """Find operands of `&&`, `||` and `!` that are no yes or no: stock Casbin raises for them."""
    match expression:
        case All(operands=operands) | Either(operands=operands):
            for part in operands:
                yield from _yes_or_no(part, vocabulary)
        case Not(operand=operand):
            yield from _yes_or_no(operand, vocabulary)
        case Compare() | Call() | EvalCell():
            return
        case _ if (kind := _kind(expression, vocabulary)) not in ("yes-no", ""):
            yield (
                "not-yes-or-no",
                f"a {kind} stands where a yes or no is meant",
                "compare it: `==`, `!=`, `in`",
                expression,
            )


def _comparison(node: Compare, vocabulary: Vocabulary) -> Iterator[Finding]:
    left, right = _kind(node.left, vocabulary), _kind(node.right, vocabulary)
    if "" in (left, right):
        return  # a name that does not exist was told already
    if node.op == "in":
        if (left, right) != ("text", "list"):
            hint = "`in` looks for a text in a list, as in `'HIV' in r.res.labels`"
            yield ("unlike-values", f"`in` looks for a {left} in a {right}", hint, node)
    elif left != right or (node.op not in ("==", "!=") and left not in ("number", "text")) or left == "list":
        yield (
            "unlike-values",
            f"`{node.op}` compares a {left} with a {right}",
            "compare texts with texts and numbers with numbers; ask a list by `in`",
            node,
        )


def _words(node: Compare, vocabulary: Vocabulary) -> Iterator[Finding]:
    """Find texts that an attribute of vocabulary words is compared with and that are no such word: never met."""
    match (node.left, node.right) if isinstance(node.left, Attribute) else (node.right, node.left):
        case Attribute(entity=entity, name=name), Const(value=str() as word) if (entity, name) in _HOLDS:
            concept, table = _HOLDS[entity, name]
            known = getattr(vocabulary, table)
            if node.op in ("==", "!=", "in") and word not in known:
                hint = nearest(word, known) or "add the word to the vocabulary first"
                yield (f"unknown-{concept}", f"{concept} `{word}` is not in vocabulary.toml", hint, node)


def _kind(node: Expression, vocabulary: Vocabulary) -> str:
    """Return what an expression is worth; empty if it is not known."""
    match node:
        case Attribute(entity=entity, name=name):
            known = vocabulary.attributes.get(entity, {}).get(name)  # type: ignore[call-overload]
            return known.kind if known is not None else ""
        case Const(value=bool()) | Not() | All() | Either() | Compare() | Call() | EvalCell():
            return "yes-no"
        case Const(value=int()):
            return "number"
        case Const(value=None):
            return "nothing"
        case Const():
            return "text"
        case Entity():
            return "whole entity"
        case _:
            return ""


def _call(
    name: str, arguments: tuple[Expression, ...], functions: Mapping[str, Function], node: Expression
) -> Iterator[Finding]:
    arities = {known: function.arity for known, function in functions.items()}
    arities |= dict.fromkeys(SECTION_FUNCTIONS, len(ENTITIES))
    if name not in arities:
        hint = nearest(name, arities) or "see the list of functions in the policy guide"
        yield ("unknown-function", f"`{name}` is no function of this pack", hint, node)
        return
    if len(arguments) != arities[name]:
        yield (
            "wrong-argument-count",
            f"`{name}` takes {arities[name]} arguments, found {len(arguments)}",
            "see the list of functions in the policy guide",
            node,
        )
        return
    takes = ENTITIES if name in SECTION_FUNCTIONS else functions[name].takes
    if takes and arguments != tuple(Entity(entity) for entity in takes):
        yield (
            "wrong-arguments",
            f"`{name}` is asked about {', '.join('`r.' + entity + '`' for entity in takes)}",
            f"write `{name}({', '.join('r.' + entity for entity in takes)})`",
            node,
        )
    elif name == "is_known" and not _asks_attribute(arguments):
        yield (
            "wrong-arguments",
            "`is_known` is asked about an entity and the name of an attribute",
            "write `is_known(r.ctx, 'name')`",
            node,
        )


def _asks_attribute(arguments: tuple[Expression, ...]) -> bool:
    return isinstance(arguments[0], Entity) and isinstance(arguments[1], Const) and isinstance(arguments[1].value, str)
