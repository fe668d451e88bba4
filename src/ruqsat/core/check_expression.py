"""What can be known of an expression from its text: every name in it, and what it may not find."""

from collections.abc import Iterator

from ruqsat.core.compile import SECTION_FUNCTIONS
from ruqsat.core.diagnostics import nearest
from ruqsat.core.expression import (
    ENTITIES,
    All,
    Attribute,
    Call,
    Column,
    Const,
    Entity,
    EvalCell,
    Expression,
    children,
    walk,
)
from ruqsat.core.vocabulary import Vocabulary


def check_expression(
    expression: Expression, vocabulary: Vocabulary, arities: dict[str, int], columns: set[str]
) -> Iterator[tuple[str, str, str, Expression]]:
    """Yield (code, message, hint, node) for every name in an expression that does not exist."""
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
            case Call(function=name, arguments=arguments):
                yield from _call(name, arguments, arities, node)
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


def _call(
    name: str, arguments: tuple[Expression, ...], arities: dict[str, int], node: Expression
) -> Iterator[tuple[str, str, str, Expression]]:
    if name not in arities:
        hint = nearest(name, arities) or "see the list of functions in the policy guide"
        yield ("unknown-function", f"`{name}` is no function of this pack", hint, node)
    elif len(arguments) != arities[name]:
        yield (
            "wrong-argument-count",
            f"`{name}` takes {arities[name]} arguments, found {len(arguments)}",
            "see the list of functions in the policy guide",
            node,
        )
    elif name in SECTION_FUNCTIONS and arguments != tuple(Entity(entity) for entity in ENTITIES):
        yield (
            "wrong-arguments",
            f"`{name}` asks about the whole request",
            f"write `{name}({', '.join('r.' + e for e in ENTITIES)})`",
            node,
        )
