"""What can be known of one row from its text: its words, its citations, its condition."""

import re
from collections.abc import Iterable, Iterator

from ruqsat.core.cells import words
from ruqsat.core.check_expression import check_expression
from ruqsat.core.diagnostics import Diagnostic, Span, nearest
from ruqsat.core.expression import Attribute, Call, ExpressionError, conjuncts, parse_expression
from ruqsat.core.function import Function
from ruqsat.core.laws import Law
from ruqsat.core.rows import Row
from ruqsat.core.validity import IMPERSONAL
from ruqsat.core.vocabulary import Vocabulary

TOPICS = {
    "role": "entitled", "rep": "represents", "delegation": "delegated", "btg": "break_glass", "statutory": "requested",
}  # fmt: skip
"""``topic.*`` in the basis cell of a denial: the section that tells the reason."""

GROUNDS = {
    "self": ("is_self",), "legal_rep": ("represents",), "delegation": ("delegated", "is_named_in"),
    "consent": ("granted",), "research_consent": ("granted",), "deidentified": ("deidentified", "deidentify"),
    "emergency_default": ("emergency",), "emergency_override": ("break_glass",), "care_consent": ("care_consent",),
    "kz273_4_1": ("unable",), "kz273_4_3": ("requested",), "kz273_4_5": ("suspected_crime",),
    "kz273_4_6": ("mental_deviation",), "kz273_4_7": ("inspected",), "kz273_4_8": ("requested",),
    "kz273_4_9": ("requested",),
}  # fmt: skip
"""By basis of a permit: what the condition asks, joined by `&&`, or a duty; without it the basis would be a claim."""

_PRIORITY = re.compile(r"[1-9][0-9]{0,5}")
_DUTY = re.compile(r"([a-z_]+)(:[0-9]+)?")
_REASON = re.compile(r"[a-z_]+(\.[a-z_]+)?")


Known = dict[str, tuple[str, set[str]]]
"""By column: what its words are, and which there are."""


def check_row(
    file: str, row: Row, vocabulary: Vocabulary, laws: dict[str, Law], functions: dict[str, Function],
    known: Known, sound: set[str],
) -> Iterator[Diagnostic]:  # fmt: skip
    """Yield every finding about one row; conditions in *sound* were found sound before."""
    if row.kind[0] == "g":
        yield from _link(row, vocabulary)
        return
    if row.kind in ("p2", "p3", "p4"):
        return  # refused as a whole
    yield from _words(row, known)
    yield from _citations(row, laws)
    if row.kind == "p":
        yield from _rule(file, row, vocabulary)
        if row.text("when") not in sound:
            found = list(_condition(row, vocabulary, functions))
            yield from found
            if not found:
                sound.add(row.text("when"))
        if row.text("when") in sound and row.text("eft") == "allow":
            yield from _grounded(row)
    elif row.text("eft") != "allow":
        yield row.finding(
            "eft",
            "unknown-effect",
            f"effect `{row.text('eft')}` is not `allow`",
            "rows of this section mean `covers`; their effect is always `allow`",
        )


def known_words(vocabulary: Vocabulary) -> Known:
    """Return the words that rows may use."""
    return {
        "role": ("role", {*vocabulary.roles, *vocabulary.role_groups}),
        "act": ("action", set(vocabulary.actions)),
        "class": ("class", {*vocabulary.classes, *vocabulary.class_groups}),
        "purpose": ("purpose", set(vocabulary.purposes)),
    }


def _words(row: Row, known: Known) -> Iterator[Diagnostic]:
    for column, (concept, allowed) in known.items():
        for word in words(row.text(column)) or ("-",):
            if word != "*" and word not in allowed:
                yield row.finding(
                    column,
                    f"unknown-{concept}",
                    f"{concept} `{word}` is not in vocabulary.toml",
                    nearest(word, allowed) or "add the word to the vocabulary first",
                )


def _citations(row: Row, laws: dict[str, Law]) -> Iterator[Diagnostic]:
    keys = words(row.text("law"))
    if not keys:
        yield row.finding("law", "rule-without-law", "the rule cites no law", "name at least one key of laws.toml")
    for key in keys:
        if key not in laws:
            yield row.finding(
                "law",
                "unknown-law",
                f"law `{key}` is not in laws.toml",
                nearest(key, laws) or "add the provision to laws.toml first",
            )


def _rule(file: str, row: Row, vocabulary: Vocabulary) -> Iterator[Diagnostic]:
    stem = file.rpartition("/")[2].removesuffix(".csv")
    if not re.fullmatch(re.escape(stem) + r"-[0-9]{2,6}", row.text("id")):
        yield row.finding(
            "id",
            "rule-id-outside-file",
            f"rule id `{row.text('id')}` does not belong to this file",
            f"ids here look like `{stem}-01`",
        )
    if not _PRIORITY.fullmatch(row.text("priority")):
        yield row.finding(
            "priority",
            "bad-priority",
            f"priority `{row.text('priority')}` is no plain number",
            "Casbin sorts anything else as text; write 1 to 999999",
        )
    effect = row.text("eft")
    if effect not in ("allow", "deny"):
        yield row.finding(
            "eft",
            "unknown-effect",
            f"effect `{effect}` is not `allow` or `deny`",
            nearest(effect.lower(), ("allow", "deny")) or "effects are lower case",
        )
    yield from _ground(row, vocabulary)
    for duty in words(row.text("duties")):
        parts = _DUTY.fullmatch(duty)
        if parts is None or parts.group(1) not in vocabulary.duties:
            yield row.finding(
                "duties",
                "unknown-duty",
                f"duty `{duty}` is not in vocabulary.toml",
                nearest(duty.partition(":")[0], vocabulary.duties) or "add the duty to the vocabulary first",
            )


def _ground(row: Row, vocabulary: Vocabulary) -> Iterator[Diagnostic]:
    ground = row.text("basis")
    if row.text("eft") == "allow":
        if ground not in vocabulary.bases:
            yield row.finding(
                "basis",
                "unknown-basis",
                f"basis `{ground}` is not in vocabulary.toml",
                nearest(ground, vocabulary.bases) or "a permit has exactly one legal basis",
            )
        return
    topic, dot, rest = ground.partition(".")
    if dot and rest == "*" and topic in TOPICS:
        if TOPICS[topic] + "(" not in row.text("when"):
            yield row.finding(
                "basis",
                "unexplained-denial",
                f"`{ground}` is told by `{TOPICS[topic]}`, which this rule never asks",
                f"ask `{TOPICS[topic]}(…)` in the condition, or write the reason itself",
            )
    elif not _REASON.fullmatch(ground):
        yield row.finding(
            "basis",
            "unknown-reason",
            f"`{ground}` is no reason of a denial",
            "write `topic.word`, or `topic.*` with " + ", ".join(f"`{t}`" for t in TOPICS),
        )


def _grounded(row: Row) -> Iterator[Diagnostic]:
    """Find permits that can match without what their legal basis rests on, and such as open a patient's data to all."""
    basis = row.text("basis")
    if basis == "public" and not IMPERSONAL.issuperset(words(row.text("class"))):
        yield row.finding(
            "class",
            "ungrounded-permit",
            f"the basis `public` opens `{row.text('class')}` to everybody",
            "name classes that concern no patient (" + ", ".join(sorted(IMPERSONAL)) + "), or another basis",
        )
    wanted = GROUNDS.get(basis, ())
    parts = conjuncts(parse_expression(row.text("when")))
    asked = {part.function for part in parts if isinstance(part, Call)}
    asked |= {part.name for part in parts if isinstance(part, Attribute)}
    if wanted and not {*asked, *words(row.text("duties"))}.intersection(wanted):
        yield row.finding(
            "when",
            "ungrounded-permit",
            f"the rule permits on the basis `{basis}` and may match without it",
            "join "
            + " or ".join(f"`{name}`" for name in wanted)
            + " to the condition by `&&`, outside of any `||`, as other rules on this basis do",
        )


def _condition(row: Row, vocabulary: Vocabulary, functions: dict[str, Function]) -> Iterator[Diagnostic]:
    cell = row.cells["when"]
    try:
        expression = parse_expression(cell.text)
    except ExpressionError as error:
        place = Span(cell.span.file, cell.span.line, cell.span.column + max(0, error.offset), max(1, error.width))
        yield Diagnostic(place, error.code, error.message, error.hint, source=row.source)
        return
    for code, message, hint, _ in check_expression(expression, vocabulary, functions, set()):
        yield row.finding("when", code, message, hint)


def _link(row: Row, vocabulary: Vocabulary) -> Iterator[Diagnostic]:
    kinds: dict[str, Iterable[str]] = {
        "g": {*vocabulary.roles, *vocabulary.role_groups},
        "g2": {*vocabulary.classes, *vocabulary.class_groups},
        "g3": vocabulary.purposes,
        "g4": vocabulary.purposes,
        "g5": vocabulary.labels,
    }
    if row.kind == "g2" and row.text("group") in IMPERSONAL and row.text("member") not in IMPERSONAL:
        yield row.finding(
            "group",
            "ungrounded-permit",
            f"`{row.text('member')}` would be opened to everybody as `{row.text('group')}`",
            "what concerns no patient has no kinds: name another group",
        )
    for column in ("member", "group"):
        if row.text(column) not in kinds[row.kind]:
            yield row.finding(
                column,
                "unknown-word",
                f"`{row.text(column)}` is not in vocabulary.toml",
                nearest(row.text(column), kinds[row.kind]) or "add the word to the vocabulary first",
            )
