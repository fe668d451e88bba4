"""The traps of stock pycasbin: what it does in silence is shown here, and that a pack with it is refused."""

import os
import random
import re
from typing import Any

import pytest
from casbin.util import key_match, key_match2, regex_match

import casbin
from ruqsat.casbin.comparison import _differences
from ruqsat.casbin.oracle import Oracle
from ruqsat.cli.policy import findings_of_pack
from ruqsat.core.admission import build_pack, read_cases
from ruqsat.core.case import Case
from ruqsat.core.diagnostics import Severity, has_errors
from ruqsat.core.hierarchy import Hierarchy
from ruqsat.core.pack import load_pack
from ruqsat.core.sampling import situations
from ruqsat.core.validity import refuse_invalid
from ruqsat.stores.policy_folder import load_texts
from tests.conftest import ROOT
from tests.policies.error_pages import REVIEW_DAY, spoilt

HARD = "policies/hard-deny.csv"
ADMITTED = 60 if os.environ.get("RUQSAT_TEST_LONGER", "1") != "1" else 25


def with_condition(texts: dict[str, bytes], condition: str) -> dict[str, bytes]:
    """Return the pack with another condition in its first hard denial."""
    return texts | {HARD: texts[HARD].decode().replace("r.ctx.relink, deny", condition + ", deny", 1).encode()}


def codes(texts: dict[str, bytes]) -> set[str]:
    """Return the codes of all errors of a pack."""
    return {finding.code for finding in build_pack(texts)[1]}


REFUSED = {
    # Policy values that would become code, or code that would leave the policy.
    "True) or (True": "unbalanced-bracket",
    ") or (True": "unbalanced-bracket",
    "True) #": "unbalanced-bracket",
    "True #": "comment-after-rule",
    "r.sub.__class__": "refused-construct",
    "r.res.id == __class__": "unknown-name",
    "r.sub.id.upper() == 'X'": "refused-construct",
    "().__class__ == 'x'": "refused-construct",
    "eval('1')": "refused-construct",
    "lambda: 1": "refused-construct",
    "[x for x in r.sub.roles] == 'a'": "refused-construct",
    "f'{r}' == 'x'": "refused-construct",
    "r.ctx.relink; True": "unreadable-condition",
    "(x := 1) == 1": "refused-construct",
    # Trap 18: no cost guard.
    "9 ** 9 ** 6 == 1": "refused-construct",
    "9 ** 9 == 1": "refused-construct",
    "'a' * 99999999 == 'a'": "refused-construct",
    "1 == " + "9" * 1900: "case-failed",
    # Trap 12 and its like: what is no yes or no.
    "1": "not-yes-or-no",
    "'text'": "not-yes-or-no",
    "r.sub.roles": "not-yes-or-no",
    "r.ctx.relink && r.sub.roles": "not-yes-or-no",
    "!r.sub.btg_today": "not-yes-or-no",
    "None": "not-yes-or-no",
    # Comparisons that raise, or are never true.
    "r.sub.id < 5": "unlike-values",
    "r.sub.roles == r.sub.id": "unlike-values",
    "r.sub.id in ('admin')": "unlike-values",
    "r.sub.id == None": "unlike-values",
    "r.ctx.now < 5": "unlike-values",
    # Traps 9, 10, 11: what is rewritten inside a text.
    "r.res.id == 'a#b'": "comment-after-rule",
    "r.res.id == 'r.sub'": "prefix-in-literal",
    "r.res.id == 'p2.sub'": "prefix-in-literal",
    "r.res.id == 'a&&b'": "operator-in-literal",
    "r.res.id == '!'": "operator-in-literal",
    "r.res.id == 'a\\'b'": "backslash-in-condition",
    "r.res.id == 'a\\x62'": "backslash-in-condition",
    "r.res.id == '''a'&&'b'''": "refused-construct",
    'r.res.id == """a"!"b"""': "refused-construct",
    # Traps 14, 15, 16, 23: functions that match more than they show, or ask the machine's clock.
    "keyMatch(r.res.id, '/p/*')": "unknown-function",
    "keyMatch2(r.res.id, '/p/:id')": "unknown-function",
    "regexMatch(r.res.id, 'p')": "unknown-function",
    "globMatch(r.res.id, 'p')": "unknown-function",
    "timeMatch('_', '_')": "unknown-function",
    "ipMatch(r.sub.id, '10.0.0.1')": "unknown-function",
    "str(r.sub.id) == 'x'": "unknown-function",
    "randint(5) == 1": "unknown-function",
    # Trap 17: what may be absent.
    "r.ctx.destination_country == 'DE'": "unguarded-attribute",
    "is_known(r.ctx, 'art16_3') && r.ctx.destination_country == 'DE'": "unguarded-attribute",
    "is_known(r.ctx, 'destination_country') || r.ctx.destination_country == 'DE'": "unguarded-attribute",
    "!is_known(r.ctx, 'destination_country') && r.ctx.destination_country == 'DE'": "unguarded-attribute",
    # Words that nobody ever states: the rule would look as if it did something.
    "'registar' in r.sub.roles": "unknown-role",
    "!('HCOMPLI' in r.ctx.purpose)": "unknown-purpose",
    "'НIV' in r.res.labels": "mixed-alphabets",
    "is_known(r.res, 'labels') && !('TBO0' in r.res.labels)": "unknown-word",
    "r.act.name == 'READ'": "unknown-action",
    "'lab' != r.res.data_class": "unknown-class",
    # Functions asked about the wrong things.
    "is_self(r.res, r.sub)": "wrong-arguments",
    "is_known(r.sub.id, 'x')": "wrong-arguments",
    "is_sensitive(r.sub)": "wrong-arguments",
    "granted(r.sub)": "wrong-argument-count",
}  # fmt: skip


@pytest.mark.parametrize("condition", REFUSED)
def test_a_condition_that_is_a_trap_is_refused(condition: str, pack_texts: dict[str, bytes]) -> None:
    """Before anything is decided by it, with a code of its own."""
    texts = with_condition(pack_texts, condition)
    if REFUSED[condition] == "case-failed":
        assert not has_errors(build_pack(texts)[1])  # a long number is only a number
        return
    if "#" in condition and "'" in condition:
        assert codes(texts) & {"hash-in-literal", "comment-after-rule"}
        return
    assert REFUSED[condition] in codes(texts)


def test_a_newline_cannot_smuggle_a_row() -> None:
    """In a file a newline begins a row, which is checked as any other: a second effect in the layer is refused."""
    page = "`policies/hard-deny.csv` is changed:\n\n```diff\n- R21 H61.9\n+ R21 H61.9\n+ p, 100, hard-deny-04, *, *, *, *, True, allow, public, -, R3\n```"

    assert "mixed-effects" in codes(spoilt(page))


UNGROUNDED = {
    "consent": ("True", "is_cared_for(r.ctx)", "{} || r.ctx.own_episode", "!{}", "{} && is_cared_for(r.ctx) || r.ctx.unable"),
    "legal_rep": ("True", "represents(r.sub, r.act, r.res, r.ctx) || is_self(r.sub, r.res)"),
    "emergency_default": ("True", "!r.ctx.emergency", "r.ctx.emergency || r.ctx.own_episode"),
    "deidentified": ("True", "!r.res.deidentified"),
}  # fmt: skip
GRANTED = "granted(r.sub, r.act, r.res, r.ctx)"


def permit(condition: str, basis: str) -> dict[str, bytes]:
    """Return the pack with one rule more among the consents."""
    rule = f"p, 1300, consent-90, nurse, read, labs, TREAT, {condition}, allow, {basis}, notify_subject, R3\n"
    texts = load_texts(ROOT)
    return texts | {"policies/consent.csv": texts["policies/consent.csv"] + rule.encode()}


@pytest.mark.parametrize(("basis", "condition"), [(b, c) for b, each in UNGROUNDED.items() for c in each])
def test_a_permit_that_may_match_without_its_basis_is_refused(basis: str, condition: str) -> None:
    """No rule says `consent` and opens a record to which nobody consented, be it by one `||` at the end."""
    assert codes(permit(condition.format(GRANTED), basis)) == {"ungrounded-permit"}


@pytest.mark.parametrize("condition", [GRANTED, f"(r.ctx.emergency || is_cared_for(r.ctx)) && {GRANTED}"])
def test_a_permit_that_asks_for_its_basis_may_ask_for_more(condition: str) -> None:
    """An `||` in brackets beside what the basis rests on only narrows the rule."""
    assert codes(permit(condition, "consent")) == set()


@pytest.mark.parametrize("classes", ["*", "clinical", "public labs"])
def test_nothing_of_a_patient_is_opened_to_everybody(classes: str, pack_texts: dict[str, bytes]) -> None:
    """The basis `public` names classes that concern nobody, and no class of a patient is a kind of one."""
    public, links = "policies/public.csv", "policies/hierarchies.csv"
    wider = pack_texts[public].replace(b"public directory", classes.encode())

    assert codes(pack_texts | {public: wider}) == {"ungrounded-permit"}
    assert "ungrounded-permit" in codes(pack_texts | {links: pack_texts[links] + b"g2, labs, directory\n"})


@pytest.mark.parametrize(("matcher", "criterion"), [
    ("m", "touches(r.res.data_class, p.class)"), ("m", "covers(r.ctx.purpose, p.purpose)"), ("m", "eval(p.when)"),
    ("m2", "in_force(r2.ctx.now, p2.since, p2.until, p2.type)"), ("m2", "names(r2.sub, p2.grantees, p2.type)"),
    ("m3", "labelled(r3.res.labels, p3.labels, 'delegation')"), ("m4", "is_same(r4.sub.id, p4.subject)"),
    ("m5", "states(r5.ctx.purpose, p5.purpose)"),
])  # fmt: skip
def test_a_matcher_that_loses_a_criterion_is_refused(
    matcher: str, criterion: str, pack_texts: dict[str, bytes]
) -> None:
    """What a row states and no matcher asks would not narrow it; an `||` between criteria would not either."""
    model = pack_texts["model.conf"].decode()
    assert criterion in model
    without = "\n".join(line.replace(criterion, f"is_known(r{matcher[1:]}.ctx, 'now')") for line in model.split("\n"))
    either = model.replace(f" && {criterion}", f" || {criterion}").replace(f"{criterion} &&", f"{criterion} ||")

    assert "unread-column" in codes(pack_texts | {"model.conf": without.encode()})
    assert codes(pack_texts | {"model.conf": either.encode()}) == {"uncountable-criterion"}


@pytest.mark.parametrize(("matcher", "criterion"), [
    ("m2", "is_known(r2.res, 'labels')"), ("m3", "is_self(r3.sub, r3.res)"), ("m4", "within_function(r4.sub, r4.ctx)"),
    ("m4", "granted(r4.sub, r4.act, r4.res, r4.ctx)"), ("m5", "is_same(p5.role, 'nurse') && is_known(r5.sub, 'org')"),
])  # fmt: skip
def test_a_criterion_without_a_word_for_its_miss_is_refused(
    matcher: str, criterion: str, pack_texts: dict[str, bytes]
) -> None:
    """A row that misses it would count as covering: a session narrowed so would open all that it opened before."""
    model = re.sub(rf"(?m)^({matcher} = .*)$", rf"{matcher} = MORE && \1", pack_texts["model.conf"].decode())
    model = model.replace(f"MORE && {matcher} =", criterion + " &&")

    assert "uncountable-criterion" in codes(pack_texts | {"model.conf": model.encode()})


@pytest.mark.parametrize(
    "criterion", ["concerning(r5.res.data_class, p5.class, 'permit')", "is_same(r5.act.name, p5.act)"]
)
def test_a_role_matrix_that_asks_for_more_decides(criterion: str, pack_texts: dict[str, bytes]) -> None:
    """A row that misses what only this model asks for covers nothing, and no question fails by it."""
    model = (
        pack_texts["model.conf"]
        .decode()
        .replace("touches(r5.res.data_class", criterion + " && touches(r5.res.data_class")
    )
    pack, findings = build_pack(pack_texts | {"model.conf": model.encode()})
    assert pack is not None, findings
    entitled, entitling = pack.policy_set.answers["entitled"], load_pack(pack_texts)[0]
    narrowed = 0
    for _, each in zip(range(200), situations(pack.policy_set, 7), strict=False):
        case = Case.of(*each)
        answer, wider = entitled(case), entitling.answers["entitled"](case)
        assert answer.holds or answer.miss in ("role.purpose", "role.action")
        assert wider.holds or not answer.holds
        narrowed += wider.holds and not answer.holds
    assert narrowed or "concerning" in criterion


SHAPES = {
    "eval(p.when)": ("eval(p.when) && eval(p.id)", "uncountable-criterion"),
    "is_same(r4.sub.id, p4.subject)": ("is_same(r4.sub.id, p4.subject) && is_same(p4.eft, 'allow')", "unknown-column"),
    "coded(r2.res.codes, p2.codes, p2.type)": ("coded(r2.res.codes, p2.document, p2.type)", "unknown-column"),
    "p5 = role,": ("p5 = rolle,", "missing-column"),
    "priority, id, role,": ("priority, id, rolle,", "missing-column"),
    "g2 = _, _": ("g2 = _, _, _", "wrong-column-count"),
    "g5 = _, _": ("g5 = _", "wrong-column-count"),
    "m  = holds": ("# old\u2028m  = holds", "invisible-character"),
    "[matchers]": ("# the matchers\x0b\n[matchers]", "invisible-character"),
}
"""What stands in the model, what an editor makes of it, and what is said; none of it is for Casbin to find out."""


@pytest.mark.parametrize("said", SHAPES)
def test_a_model_of_another_shape_is_told_at_once(said: str, pack_texts: dict[str, bytes]) -> None:
    """A condition in a column that holds none, a column or link of another name or number, lines that nobody sees."""
    instead, code = SHAPES[said]
    model = pack_texts["model.conf"].decode()
    assert said in model

    assert code in codes(pack_texts | {"model.conf": model.replace(said, instead, 1).encode()})


def test_a_model_with_windows_line_ends_and_comments_behind_links_is_read(pack_texts: dict[str, bytes]) -> None:
    """Neither changes what Casbin reads."""
    model = pack_texts["model.conf"].replace(b"g2 = _, _", b"g2 = _, _ # classes").replace(b"\n", b"\r\n")

    assert codes(pack_texts | {"model.conf": model}) == set()


def test_a_comment_amid_a_matcher_does_not_widen_consents(pack_texts: dict[str, bytes]) -> None:
    """A line of the consents' matcher that is commented out would let one record's consent open every record."""
    model = pack_texts["model.conf"].replace(b"     && within_data", b"#     && within_data")

    assert codes(pack_texts | {"model.conf": model}) == {"unread-column"}


WIDER = {
    'btg_required_conf           = ["V"]': 'btg_required_conf = ["v"]',
    'adequate_countries          = ["KZ"]': 'adequate_countries = ["*"]',
    'minor_self_classes          = ["encounters", "labs"': 'minor_self_classes = ["encounters", "lab"',
    'labels   = ["SEX", "STD"': 'labels = ["SEX", "STI"',
    'actions             = ["read", "search"]': 'actions = ["read", "*"]',
    "rep_access_ends_at          = 18": "rep_access_ends_at = 81",
    "minor_self_from_age         = 16": "minor_self_from_age = 61",
    "max_hours           = 4": "max_hours = 400",
    "small_cell_min              = 5": "small_cell_min = -5",
    'the parts named", blocking = true': 'the parts named"',
    '"deny.consent"                  = "consent_required"': '"deny.consent" = "permitted"',
    'reason = "allow.consent"': 'reason = "deny.consent"',
}
"""What stands in the vocabulary, and a slip that would open more, or tell a denial as a permit."""


@pytest.mark.parametrize("said", WIDER)
def test_a_slip_in_the_vocabulary_that_opens_more_is_refused(said: str, pack_texts: dict[str, bytes]) -> None:
    """A switch names words that there are, within what a reading of the law may say; what blocks stays blocking."""
    text = pack_texts["policies/vocabulary.toml"].decode()
    assert said in text
    spoilt_text = text.replace(said, WIDER[said]).encode()

    assert codes(pack_texts | {"policies/vocabulary.toml": spoilt_text}) == {"bad-vocabulary"}


OTHER_FILES = (
    "model.conf",
    "policies/vocabulary.toml",
    "policies/laws.toml",
    "policies/routes.toml",
    "policies/consent.test.toml",
)


@pytest.mark.parametrize("name", OTHER_FILES)
def test_a_file_that_an_editor_saved_otherwise_is_told_as_what_it_is(name: str, pack_texts: dict[str, bytes]) -> None:
    """A byte order mark, UTF-16, CP1251: one finding says which, and none about what follows from it."""
    text = pack_texts[name]

    def told(data: bytes) -> set[str]:
        texts = pack_texts | {name: data}
        return {
            finding.code for finding in findings_of_pack(texts, REVIEW_DAY)[0] if finding.severity is Severity.ERROR
        }

    assert told(b"\xef\xbb\xbf" + text) == {"byte-order-mark"}
    assert told(text.decode().encode("utf-16")) == {"utf-16"}
    assert told("# Бұл ереже, правило\n".encode("cp1251", errors="replace") + b"x = 1\n") == {"cp1251"}


def test_a_wrong_date_in_the_laws_is_one_finding_at_its_line(pack_texts: dict[str, bytes]) -> None:
    """Not one for each rule that cites a law."""
    laws = pack_texts["policies/laws.toml"].replace(b"2025-11-26", b"26.11.2025", 1)

    findings = build_pack(pack_texts | {"policies/laws.toml": laws})[1]

    assert [(each.code, each.span.line > 1) for each in findings] == [("unreadable-toml", True)]


@pytest.mark.parametrize("other", ["hard-deny.CSV", "hard-deny.csv.txt", "Hard-Deny.Csv"])
def test_a_layer_under_another_name_is_not_lost_in_silence(other: str, pack_texts: dict[str, bytes]) -> None:
    """Neither it nor its cases: with them taken away a pack without hard denials would be sound."""
    renamed = {name: data for name, data in pack_texts.items() if name != HARD}

    assert codes(renamed | {f"policies/{other}": pack_texts[HARD]}) == {"unread-file"}
    assert {each.code for each in read_cases(renamed)[1]} == {"missing-file"}


@pytest.mark.parametrize("word", ["dеny", "hard-dеny-01", "rеad", "relіnk", "р, 100"])
def test_a_cyrillic_letter_in_a_word_is_shown(word: str, pack_texts: dict[str, bytes]) -> None:
    """`deny` with a Cyrillic letter looks like `deny`: the finding says which letter it is."""
    plain = word.translate(str.maketrans("еір", "eip"))
    rules = (
        pack_texts[HARD].decode() + "p, 100, hard-deny-11, *, read, *, *, r.ctx.relink, deny, research.relink, -, R21\n"
    )
    assert rules.count(plain)

    assert "mixed-alphabets" in codes(pack_texts | {HARD: rules.replace(plain, word, 1).encode()})
    assert "mixed-alphabets" not in codes(pack_texts | {HARD: ("# дәрігер, deny\n" + rules).encode()})


def stock(
    policy: list[list[str]], matcher: str, request: tuple[Any, ...], effect: str = "some(where (p.eft == allow))"
) -> Any:
    """Return what stock pycasbin answers over a model of subject, object and action."""
    model = casbin.Enforcer.new_model(
        text=f"[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act, eft\n"
        f"[role_definition]\ng = _, _\n[policy_effect]\ne = {effect}\n[matchers]\nm = {matcher}"
    )
    enforcer = casbin.Enforcer(model)
    for row in policy:
        (enforcer.add_policy if len(row) == 4 else enforcer.add_grouping_policy)(*row)
    return enforcer.enforce(*request)


def test_what_stock_pycasbin_does_with_these_traps() -> None:
    """Asserted, so that a release of pycasbin that mends one is noticed: its trap may then be opened."""
    rows = [["a", "/p/1", "read", "allow"]]
    ask = ("a", "/p/1", "read")
    with pytest.raises(RuntimeError, match="matcher result"):
        stock(rows, "1", ask)
    with pytest.raises(RuntimeError, match="unsupported effect"):
        stock(rows, "r.sub == p.sub", ask, "some(where(p.eft == allow))")
    assert key_match("/patients/1/secret", "/patients/*/public")
    assert key_match2("/v1X0/x", "/v1.0/x")
    assert key_match2("/patient/1\n", "/patient/:id")
    assert regex_match("GETX", "GET")
    links = [[f"n{i}", f"n{i + 1}"] for i in range(12)]
    assert stock([["n9", "o", "read", "allow"], *links], "g(r.sub, p.sub)", ("n0", "o", "read")) is True
    assert stock([["n10", "o", "read", "allow"], *links], "g(r.sub, p.sub)", ("n0", "o", "read")) is False
    assert stock([["кафе\u0301", "o", "read", "allow"]], "r.sub == p.sub", ("кафé", "o", "read")) is False
    disabled = casbin.Enforcer(casbin.Enforcer.new_model(text="[request_definition]\nr = sub\n[policy_definition]\np = sub\n"
        "[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = r.sub == p.sub"))  # fmt: skip
    disabled.enable_enforce(False)
    assert disabled.enforce("anybody") is True


def test_a_chain_as_long_as_casbin_follows_is_followed_and_a_longer_one_refused() -> None:
    """Nine links count in both engines; ten are refused here and lost there."""
    nine = Hierarchy([(f"n{i}", f"n{i + 1}") for i in range(9)])
    ten = Hierarchy([(f"n{i}", f"n{i + 1}") for i in range(10)])

    assert "n9" in nine.above("n0")
    assert (nine.too_deep, ten.too_deep) == (None, "n0")


ATOMS = [
    "r.ctx.relink", "r.res.blocked", "r.ctx.emergency", "r.sub.active", "True", "False", "r.sub.id == 's1'", "r.sub.id",
    "r.sub.btg_today > 3", "r.sub.btg_today >= 'x'", "'team' in r.sub.groups", "'HIV' in r.res.labels", "'TREAT' in r.ctx.purpose",
    "is_self(r.sub, r.res)", "is_sensitive(r.res)", "is_known(r.res, 'labels')", "is_known(r.ctx, 'destination_country')",
    "r.ctx.destination_country == 'DE'", "r.ctx.destination_country in r.sub.groups", "granted(r.sub, r.act, r.res, r.ctx)",
    "represents(r.sub, r.act, r.res, r.ctx)", "entitled(r.sub, r.act, r.res, r.ctx)", "r.act.name < 'read'", "r.res.conf == 'V'",
    "is_known(r.res, 'conf')", "r.sub.org == r.res.author_org", "is_cared_for(r.ctx)", "acts(r.act.name, 'read search')",
    "holds(r.sub.roles, 'care_staff')", "leaves_the_country(r.ctx)", "1 == 1", "2 < 'a'", "r.sub.roles",
]  # fmt: skip


def random_condition(dice: random.Random, depth: int = 3) -> str:
    """Return a condition of known parts, many of which must be refused."""
    if depth == 0 or dice.random() < 0.4:
        return dice.choice(ATOMS)
    kind = dice.random()
    if kind < 0.2:
        return f"!({random_condition(dice, depth - 1)})"
    mark = " && " if kind < 0.7 else " || "
    return "(" + mark.join(random_condition(dice, depth - 1) for _ in range(dice.choice([2, 2, 3]))) + ")"


@pytest.mark.slow
def test_an_admitted_condition_never_raises_in_either_engine(pack_texts: dict[str, bytes]) -> None:
    """Random conditions: refused, or answered alike by the compiled set and stock pycasbin in every situation."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    dice = random.Random(seed)
    admitted = refused = asked = 0
    while admitted < ADMITTED:
        texts = with_condition(pack_texts, random_condition(dice))
        pack, findings = build_pack(texts)
        if pack is None:
            refused += 1
            assert has_errors(findings)
            continue
        admitted += 1
        oracle = Oracle(texts, pack.policy_set)
        for number, (_, each) in enumerate(
            zip(range(12), situations(pack.policy_set, dice.randrange(10**6)), strict=False)
        ):
            case = Case.of(*each)
            if refuse_invalid(case, pack.policy_set.vocabulary) is None:
                asked += 1
                assert list(_differences(number, case, pack.policy_set, oracle)) == [], re.findall(
                    "p, 100.*", texts[HARD].decode()
                )[0]
    assert refused > ADMITTED / 3
    assert asked > 5 * ADMITTED
