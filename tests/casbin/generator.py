"""Random Casbin models, policies and requests from a seed, and what an enforcer makes of them."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from casbin.core_enforcer import EnforceContext

import casbin

NAMES = ["aida", "erlan", "dana", "nurse", "doctor", "chief", "*", "root"]
OBJECTS = ["/p/1", "/p/2", "/p/*", "/p/:id", "/p/{id}/labs", "/p/7/labs", "labs", "*", "/"]
ACTIONS = ["read", "write", "(read)|(write)", "r.*", "*", "del"]
DOMAINS = ["h1", "h2", "*", ""]
ADDRESSES = ["10.0.0.1", "10.0.0.0/8", "::1", "nowhere"]
RULES = [
    "r.sub.age > 18", "r.sub.age > 18 && r.obj == p.obj", "true", "1 == 1", "r.act == 'read' || r.act == 'write'",
    "r.sub.name == 'aida'", "keyMatch(r.obj, p.obj)", "r.sub.age + 1 > 20", "r.nothing == 1", "a) or (b", "r.sub.age >",
    "!(r.act == 'del')", "r.act in ('read', 'write')",
]  # fmt: skip
EFFECTS = [
    "some(where (p.eft == allow))", "!some(where (p.eft == deny))",
    "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny",
]  # fmt: skip


class Person:
    """A subject with attributes; one that lacks an age makes conditions raise."""

    def __init__(self, name: str, age: int | None) -> None:
        self.name = name
        if age is not None:
            self.age = age

    def __repr__(self) -> str:
        return f"Person({self.name!r}, {getattr(self, 'age', None)})"


@dataclass(frozen=True)
class World:
    """A model's text, its rows by policy type, and requests."""

    model: str
    rows: list[tuple[str, list[str]]]
    requests: list[tuple[Any, ...]]
    changes: list[tuple[str, str, list[str]]]


def world(seed: int, *, requests: int = 20) -> World:
    """Return the world of a seed."""
    dice = random.Random(seed)
    has_domain, has_effect, has_rule = dice.random() < 0.35, dice.random() < 0.6, dice.random() < 0.15
    has_priority = dice.random() < 0.15
    suffixes = ["", "2"] if dice.random() < 0.2 else [""]
    fields = ["sub", "obj", "act"] + ["dom"] * has_domain
    columns = ["priority"] * has_priority + fields + ["rule"] * has_rule + ["eft"] * has_effect
    if dice.random() < 0.2:
        dice.shuffle(columns)
    lines = ["[request_definition]", *(f"r{s} = {', '.join(fields)}" for s in suffixes)]
    lines += ["[policy_definition]", *(f"p{s} = {', '.join(columns)}" for s in suffixes)]
    roles = {"g": "_, _, _" if has_domain and dice.random() < 0.7 else "_, _"} if dice.random() < 0.75 else {}
    if roles and dice.random() < 0.3:
        roles["g2"] = "_, _"
    if roles:
        lines += ["[role_definition]", *(f"{name} = {shape}" for name, shape in roles.items())]
    lines += ["[policy_effect]", *(f"e{s} = {dice.choice(EFFECTS)}" for s in suffixes)]
    lines += ["[matchers]", *(f"m{s} = {_matcher(dice, s, has_domain, has_rule, roles)}" for s in suffixes)]
    rows = [
        (f"p{s}", _row(dice, columns)) for s in suffixes for _ in range(dice.choice([0, 1, 3, 8, 20, 40]))
    ]  # fmt: skip
    for name, shape in roles.items():
        rows += [(name, _link(dice, shape)) for _ in range(dice.choice([0, 2, 6, 14]))]
        if dice.random() < 0.4:  # longer than the ten levels that pycasbin follows
            ends = [dice.choice(DOMAINS)] * (shape.count("_") - 2)
            chain = ["aida", *(f"level{n}" for n in range(11))]
            rows += [(name, [*pair, *ends]) for pair in itertools.pairwise(chain)]
    asked = [_request(dice, has_domain, suffixes) for _ in range(requests)]
    changes = [
        (dice.choice(["add", "remove"]), "p", dice.choice([row for kind, row in rows if kind == "p"] or [_row(dice, columns)]))
        for _ in range(2)
    ]  # fmt: skip
    return World("\n".join(lines), rows, asked, changes)


def _matcher(dice: random.Random, s: str, has_domain: bool, has_rule: bool, roles: dict[str, str]) -> str:
    def criterion() -> str:
        kind = dice.random()
        if kind < 0.5:
            return by_column()
        if kind < 0.62:
            return dice.choice(
                [f"keyMatch(r{s}.obj, p{s}.obj)", f"keyMatch2(r{s}.obj, p{s}.obj)", f"keyMatch3(r{s}.obj, p{s}.obj)",
                 f"keyMatch4(r{s}.obj, p{s}.obj)", f"keyMatch5(r{s}.obj, p{s}.obj)", f"globMatch(r{s}.obj, p{s}.obj)"]
            )  # fmt: skip
        if kind < 0.7:
            return dice.choice(
                [f"regexMatch(r{s}.act, p{s}.act)", f"ipMatch(r{s}.sub, p{s}.sub)", f"alike(r{s}.sub, p{s}.sub)"]
            )
        if kind < 0.8:
            return dice.choice(
                [f'r{s}.sub == "root"', f"r{s}.act in ('read', 'write')", f'r{s}.act != "del"', f"r{s}.sub in p{s}.sub",
                 f"r{s}.sub == r{s}.obj", f'p{s}.obj != "*"', f"alike(r{s}.act, 'read')", "1 < 2"]
            )  # fmt: skip
        if kind < 0.86:
            return dice.choice(
                [f"r{s}.sub.age > 18", f"r{s}.sub.name == p{s}.sub", f"r{s}.sub.age * 2 >= 40", f"r{s}.act.startswith('r')",
                 f"r{s}.sub.name == r{s}.obj", f"r{s}.obj", f"half(r{s}.sub)", f"18 < r{s}.sub.age < 60", f"r{s}.sub.mro"]
            )  # fmt: skip
        if has_rule:
            return f"eval(p{s}.rule)"
        return f"!({by_column()})"

    def by_column() -> str:
        field = dice.choice(["sub", "obj", "act"] + ["dom"] * has_domain)
        equal = dice.choice([f"r{s}.{field} == p{s}.{field}", f"p{s}.{field} == r{s}.{field}"])
        ways = [equal, equal, f'(p{s}.{field} == "*" || {equal})', f'({equal} || p{s}.{field} == "*")']
        for name, shape in roles.items():
            link = f"{name}(r{s}.sub, p{s}.sub{f', r{s}.dom' if shape.count('_') == 3 else ''})"
            ways += [link, link, f'({link} || p{s}.sub == "*")']
            if shape.count("_") == 3:
                ways.append(f"{name}(r{s}.sub, p{s}.sub, p{s}.dom)")
        return dice.choice(ways)

    parts = [
        " && ".join(criterion() for _ in range(dice.choice([1, 2, 3, 3, 4])))
        for _ in range(dice.choice([1, 1, 1, 1, 2, 3]))
    ]
    if has_rule and dice.random() < 0.7:
        parts[0] += f" && eval(p{s}.rule)"
    return " || ".join(parts)


def _row(dice: random.Random, columns: list[str]) -> list[str]:
    choices: dict[str, list[str]] = {
        "sub": [*NAMES, *NAMES, "level7", "level8", "level9", *ADDRESSES[:2]], "obj": OBJECTS, "act": ACTIONS, "dom": DOMAINS, "rule": RULES,
        "eft": ["allow", "allow", "deny", "deny", "maybe"], "priority": ["1", "2", "10"],
    }  # fmt: skip
    return [dice.choice(choices[column]) for column in columns]


def _link(dice: random.Random, shape: str) -> list[str]:
    deep = [f"level{n}" for n in range(12)]
    if dice.random() < 0.5:
        low = dice.randrange(11)
        pair = dice.choice([[deep[low], deep[low + 1]], ["aida", deep[0]], [deep[dice.randrange(8, 12)], "chief"]])
    else:
        pair = [dice.choice(NAMES), dice.choice(NAMES)]
    return pair + [dice.choice(DOMAINS) for _ in range(shape.count("_") - 2)]


def _request(dice: random.Random, has_domain: bool, suffixes: list[str]) -> tuple[Any, ...]:
    subject: Any = dice.choice([*NAMES, "level0", "stranger", *ADDRESSES])
    odd = dice.random()
    if odd < 0.25:
        subject = Person(dice.choice(NAMES), dice.choice([10, 19, 40, None]))
    elif odd < 0.3:
        subject = {"name": "aida", "age": 40}
    elif odd < 0.34:
        subject = dice.choice([None, 7, 0.0, ["aida"], {"f": eval}, random])
    values: list[Any] = [subject, dice.choice([*OBJECTS, "/p/9"]), dice.choice([*ACTIONS[:2], "del", "rest"])]
    values += [dice.choice([*DOMAINS, 1])] * has_domain
    if odd > 0.98:
        values.pop()
    suffix = dice.choice(suffixes)
    if len(suffixes) > 1:
        return EnforceContext(f"r{suffix}", f"p{suffix}", "e", f"m{suffix}"), *values
    return tuple(values)


def half(value: Any) -> float:
    """A custom function with a number for an answer: 0.0 is no match."""
    return 0.5 if value == "aida" else 0.0


def alike(one: Any, other: Any) -> bool:
    """A custom function that raises for what is no text."""
    return bool(one.lower()[:1] == other.lower()[:1])


def built(kind: Callable[..., Any], world: World) -> Any:
    """Return an enforcer of the kind over the world."""
    enforcer = kind(casbin.Enforcer.new_model(text=world.model))
    enforcer.add_function("half", half)
    enforcer.add_function("alike", alike)
    for name, row in world.rows:
        (enforcer.add_named_policy if name[0] == "p" else enforcer.add_named_grouping_policy)(name, list(row))
    return enforcer


def outcome(enforcer: Any, request: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what the enforcer answers, or what it raises."""
    try:
        allowed, row = enforcer.enforce_ex(*request)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the outcome
        return "raises", type(error).__name__, str(error)
    return "answers", allowed, row
