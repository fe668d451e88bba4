"""
Everything that may happen in the small town, as rules of a state machine.

After every step some questions are asked; the product must answer as the reference
does, which shares nothing with it that decides, and the twelve properties must hold.
"""

from collections import Counter
from collections.abc import Callable
from datetime import date
from functools import wraps
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec.structs import replace

from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Grantee
from ruqsat.core.instant import HOUR, parse_instant, render_instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.representation import birthday
from ruqsat.core.world import DelegationRecord, EpisodeRecord, Giver, RepresentationRecord, SessionRecord, Signature
from tests.conformance.living_world import (
    ADULT,
    BEGIN,
    BIRTHS,
    CHILD,
    DAY,
    KEPT,
    LABELS,
    PATIENTS,
    PEOPLE,
    STAFF,
    Question,
    Town,
    beginning,
    document,
    permits,
    questions,
    refusals,
    terms,
    with_record,
    without_others,
)
from tests.conformance.reference import decide as by_reference
from tests.conformance.twelve import check_all

TIMES = ("start", "end", "revoked_at", "valid_from", "valid_to", "started_at", "expires_at", "opened_at", "closed_at")
PLAIN = {"effect": "permit", "grantees": (Grantee(org="h1"),), "purposes": ("TREAT",),
         "categories": ("clinical", "demographics"), "actions": ("read", "search", "create")}  # fmt: skip
FAMILY = {"effect": "permit", "grantees": (Grantee(subject="arman"),), "purposes": ("FAMRQT",),
          "categories": ("clinical",)}  # fmt: skip
HOW: dict[str, dict[str, Any]] = {
    "paper": {"form": "written", "signature": Signature("handwritten", True)},
    "parent": {"given_by": Giver("legal_rep", "saule", "parent", True), "signature": Signature("rep_eds", True)},
    "cosigned": {"cosigned_by_rep": True},
    "unsigned": {"signature": Signature("patient_eds", False)},
}
"""How a consent is signed, where it is not simply by the patient."""

ALREADY = ("care", "family", "ambulance", "glass", "disease", "mother")
"""What may have been done before the story begins."""

place = st.integers(0, 15)
"""Which of the documents, links or sessions there are; counted round, so that a small number is a simple example."""

delays = st.sampled_from((*(0,) * 5, -HOUR, HOUR, DAY))
patients = st.sampled_from((ADULT, ADULT, CHILD))


def session(who: str, patient: str, start: int, length: int, **more: Any) -> SessionRecord:
    """Return a break-glass session."""
    usual = {"reason_code": "unconscious", "reason_text": "brought in by ambulance", "mfa": True}
    return SessionRecord(
        subject=who, patient=patient, started_at=render_instant(start), expires_at=render_instant(start + length),
        **{**usual, **more},
    )  # fmt: skip


def step(**drawn: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a rule of a change: the world changes, then questions are asked of it."""

    def decorate(change: Callable[..., None]) -> Any:
        @wraps(change)
        def run(self: "Life", asked: list[Question], **chosen: Any) -> None:
            change(self, **chosen)
            self.examine(asked)

        return rule(asked=st.lists(questions(), min_size=2, max_size=5), **drawn)(run)

    return decorate


class Life(RuleBasedStateMachine):
    """A world, its moment, and everything that may happen in it."""

    def __init__(self, policy_set: PolicySet, met: Counter[str]) -> None:
        super().__init__()
        self.policy_set, self.met, self.now = policy_set, met, BEGIN
        self.world = beginning(None)
        self.able = frozenset(name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking)

    # ---- what is asked ---------------------------------------------------------------------------------

    def decide(self, *situation: Any) -> Decision:
        """Let the product decide, for an enforcement point that can do everything."""
        return evaluate(self.policy_set, *situation, self.able)

    def examine(self, asked: list[Question]) -> None:
        """Compare the answers with the reference's, and check the properties."""
        town = Town.of(self.world, self.policy_set.vocabulary.switches)
        for patient in PATIENTS:
            alone = Town.of(without_others(self.world, patient), self.policy_set.vocabulary.switches)
            assert alone.patients[patient] == town.patients[patient], "P5: documents of one patient cover no other"
        after_all = max([self.now, *self.edges()]) + 1
        for question in asked:
            situation = town.situation(question, self.now)
            decision = self.decide(*situation)
            ours = (decision.allowed, decision.reason, decision.basis, frozenset(decision.duties))
            reference = by_reference(situation[0], situation[1], self.now)
            assert ours == reference, f"{question} at {render_instant(self.now)}: {ours}, the reference {reference}"
            check_all(self.decide, situation, question.label, question.purpose, after_all)
            self.met[decision.reason] += 1
            self.met[f"basis {decision.basis}"] += 1

    def edges(self) -> list[int]:
        """Return every instant at which something begins or ends, and the birthdays."""
        told: list[int] = []
        for kind in ("consents", "delegations", "reps", "btg", "episodes"):
            for record in getattr(self.world, kind).values():
                texts = (getattr(record, name, None) for name in TIMES)
                told += [parse_instant(text) for text in texts if text is not None]
                if kind == "btg":
                    told.append(parse_instant(record.started_at) + 4 * HOUR)
        born = self.world.patients[CHILD].birth_date
        return told if born is None else [*told, *(birthday(born, age, 5) for age in (16, 18))]

    # ---- the tools of the changes ----------------------------------------------------------------------

    def write(self, kind: str, name: str, record: object) -> None:
        """Write a record."""
        self.world = with_record(self.world, kind, name, record)

    def pick(self, kind: str, number: int) -> tuple[str, Any] | None:
        """Return the record of that number, counted round from the newest; None if there is none."""
        there = list(getattr(self.world, kind).items())[::-1]
        return there[number % len(there)] if there else None

    def amend(self, kind: str, number: int, **changes: Any) -> None:
        """Change the record of that number, if there is any."""
        if (found := self.pick(kind, number)) is not None:
            self.write(kind, found[0], replace(found[1], **changes))

    def name(self, kind: str, letter: str) -> str:
        """Return the next name of its kind."""
        return f"{letter}{len(getattr(self.world, kind)) + 1}"

    def text(self, delay: int) -> str:
        """Write the moment so long from now."""
        return render_instant(self.now + delay)

    # ---- documents -------------------------------------------------------------------------------------

    @initialize(born=st.sampled_from(BIRTHS), already=st.sets(st.sampled_from(ALREADY)))
    def begin(self, born: date | None, already: set[str]) -> None:
        """The town begins; what most people would have done may have been done already."""
        self.world, term = beginning(born), (-HOUR, 30 * DAY)
        if "care" in already:
            self.write("consents", "c1", document(ADULT, "h1", self.now, term, PLAIN))
        if "family" in already:
            self.let_in("arman", ADULT, term, further=True)
        if "ambulance" in already:
            self.bring_in(ADULT, "h1", "emergency")
        if "glass" in already:
            self.bring_in(ADULT, "h1", "emergency")
            self.write("btg", "s1", session("ed_bolat", ADULT, self.now, DAY))
        if "disease" in already:
            name = f"{ADULT}-labs"
            self.write("records", name, replace(self.world.records[name], labels=("INFDIS",)))
        if "mother" in already:
            self.write("reps", "q1", RepresentationRecord(subject="saule", patient=CHILD, kind="parent", verified=True))

    def let_in(self, delegate: str, patient: str, term: Any, *, keeps: bool = False, by: str = "", **more: Any) -> None:
        """Sign the family consent anew, naming one more delegate, and write the link."""
        link = self.name("delegations", "g")
        before = [each for each in self.world.consents.values() if each.thread == f"{patient}|family"]
        named = (*(before[-1].delegations if before and keeps else ()), link)
        name = self.name("consents", "c")
        made = document(patient, "family", self.now, term, FAMILY, kind="delegation", delegations=named)
        self.write("consents", name, made)
        record = DelegationRecord(
            patient=patient, consent=name, delegator=by or patient, delegate=delegate, purposes=("FAMRQT",),
            start=self.text(term[0]), end=self.text(term[0] + (term[1] or DAY)),
            **{"categories": ("clinical",), "may_redelegate": more.pop("further"), **more},
        )  # fmt: skip
        self.write("delegations", link, record)

    def bring_in(self, patient: str, org: str, form: Any, *, consents: bool = False) -> None:
        """Open an episode."""
        record = EpisodeRecord(
            patient=patient, org=org, form_of_care=form, opened_at=self.text(0), care_consent=consents
        )  # fmt: skip
        self.write("episodes", self.name("episodes", "e"), record)

    @step(patient=patients, thread=st.sampled_from(("h1", "h1", "h2", "own")), said=permits, term=terms,
          how=st.sampled_from(("signed",) * 5 + ("paper", "parent", "cosigned", "unsigned", "draft")))  # fmt: skip
    def sign(self, patient: str, thread: str, said: dict[str, Any], term: Any, how: str) -> None:
        """A consent is signed: by the patient, by the mother, on paper, not at all."""
        name = self.name("consents", "c")
        made = document(patient, f"{name}" if thread == "own" else thread, self.now, term, said, **HOW.get(how, {}))
        self.write("consents", name, replace(made, status="draft") if how == "draft" else made)

    @step(patient=patients, thread=st.sampled_from(("own", "own", "h1", "h2")), said=refusals, term=terms,
          kind=st.sampled_from(("dissent",) * 5 + ("marketing", "unheard-of")))  # fmt: skip
    def refuse(self, patient: str, thread: str, said: dict[str, Any], term: Any, kind: str) -> None:
        """A refusal is signed: of its own, or in the thread of a consent."""
        name = self.name("consents", "c")
        made = document(patient, name if thread == "own" else thread, self.now, term, said, kind=kind)
        self.write("consents", name, made)

    @step(number=place, delay=delays, told=st.booleans())
    def withdraw(self, number: int, delay: int, told: bool) -> None:
        """A document is withdrawn, now or from a moment on; its status may say so, or only the date."""
        status = {"status": "revoked"} if told else {}
        self.amend("consents", number, revoked_at=self.text(delay), **status)

    @step(number=place, said=permits, term=terms, keeps=st.booleans(), marks=st.booleans())
    def sign_anew(self, number: int, said: dict[str, Any], term: Any, keeps: bool, marks: bool) -> None:
        """A document follows another in its thread; it may keep the delegations, the older may be marked."""
        if (found := self.pick("consents", number)) is None:
            return
        name, old = found
        if marks:
            self.write("consents", name, replace(old, status="superseded"))
        thread = (old.thread or name).removeprefix(f"{old.patient}|")
        named = old.delegations if keeps else ()
        made = document(old.patient, thread, self.now, term, said, kind=old.kind, delegations=named)
        self.write("consents", self.name("consents", "c"), made)

    @step(number=place)
    def enter_a_paper(self, number: int) -> None:
        """A paper leaves the drawer: it is entered under the organisation's signature."""
        self.amend("consents", number, entered_in_mis_at=self.text(0), signature=Signature("org_eds", True))

    @step(number=place, status=st.sampled_from(("quarantined", "active", "rejected", "entered-in-error")))
    def reconsider(self, number: int, status: str) -> None:
        """A document turns out unreadable, or is read after all, or should never have been entered."""
        self.amend("consents", number, status=status)

    # ---- third persons ---------------------------------------------------------------------------------

    @step(patient=patients, delegate=st.sampled_from(("arman", "arman", "friend")), term=terms, further=st.booleans(),
          categories=st.sampled_from((("clinical",), ("labs",))), labels=st.sampled_from(((), (), ("HIV", "PSY"))),
          by=st.sampled_from(("",) * 4 + ("saule", "dr_aida")), keeps=st.booleans())  # fmt: skip
    def name_a_delegate(  # noqa: PLR0917 - what the paper says
        self, patient: str, delegate: str, term: Any, further: bool, categories: Any, labels: Any, by: str, keeps: bool
    ) -> None:
        """The family consent is signed anew and names one more delegate, and the earlier ones or not."""
        self.let_in(delegate, patient, term, keeps=keeps, by=by, further=further, categories=categories, labels=labels)

    @step(number=place, delegate=st.sampled_from(("friend", "arman")), itself=st.booleans())
    def hand_on(self, number: int, delegate: str, itself: bool) -> None:
        """A delegate hands on what he was given; now and then in a circle."""
        if (found := self.pick("delegations", number)) is None:
            return
        name, above = found
        below = name if itself else self.name("delegations", "g")
        self.write(
            "delegations", below, replace(above, delegator=above.delegate, delegate=delegate, parent=name)
        )  # fmt: skip

    @step(number=place, delay=delays)
    def end_a_delegation(self, number: int, delay: int) -> None:
        """The patient takes it back, or the delegate gives it up."""
        self.amend("delegations", number, revoked_at=self.text(delay))

    @step(patient=patients, kind=st.sampled_from(("parent", "parent", "guardian", "poa")), verified=st.booleans(),
          term=terms)  # fmt: skip
    def present_a_power(self, patient: str, kind: Any, verified: bool, term: Any) -> None:
        """The mother shows what makes her a representative."""
        until = None if term[1] is None else self.text(term[0] + term[1])
        record = RepresentationRecord(
            subject="saule", patient=patient, kind=kind, verified=verified, valid_from=self.text(term[0]), valid_to=until
        )  # fmt: skip
        self.write("reps", self.name("reps", "q"), record)

    @step(number=place, delay=delays, checks=st.booleans())
    def judge_a_power(self, number: int, delay: int, checks: bool) -> None:
        """A power is verified, or taken away."""
        changes = {"verified": True} if checks else {"revoked_at": self.text(delay)}
        self.amend("reps", number, **changes)

    # ---- emergencies -----------------------------------------------------------------------------------

    @step(patient=patients, org=st.sampled_from(("h1", "h1", "h2")), consents=st.booleans(),
          form=st.sampled_from(("emergency", "emergency", "urgent", "planned")))  # fmt: skip
    def open_an_episode(self, patient: str, org: str, form: Any, consents: bool) -> None:
        """Somebody is brought in, or comes by appointment."""
        self.bring_in(patient, org, form, consents=consents)

    @step(number=place, delay=delays)
    def close_an_episode(self, number: int, delay: int) -> None:
        """The patient goes home."""
        self.amend("episodes", number, closed_at=self.text(delay))

    @step(patient=patients, who=st.sampled_from(STAFF), mfa=st.sampled_from((True, True, True, False)),
          reason=st.sampled_from(("unconscious", "unconscious", "unconscious", "curiosity")),
          hours=st.sampled_from((1, 4, 9)), delay=delays,
          categories=st.sampled_from((("emergency_set",), ("emergency_set",), ("labs",))))  # fmt: skip
    def break_the_glass(
        self, patient: str, who: str, mfa: bool, reason: str, hours: int, delay: int, categories: Any
    ) -> None:
        """A session is opened by somebody, for somebody."""
        start, until = self.now + delay, hours * HOUR
        record = session(who, patient, start, until, mfa=mfa, reason_code=reason, categories=categories)
        self.write("btg", self.name("btg", "s"), record)

    @step(number=place, delay=delays)
    def stop_a_session(self, number: int, delay: int) -> None:
        """The privacy officer ends it."""
        self.amend("btg", number, revoked_at=self.text(delay))

    # ---- time ------------------------------------------------------------------------------------------

    @step(span=st.sampled_from((1, HOUR - 1, HOUR, 3 * HOUR, DAY, 20 * DAY)))
    def wait(self, span: int) -> None:
        """Time goes by."""
        self.now += span

    @step(number=place, beside=st.sampled_from((-1, 0, 0, 1)))
    def wait_for_a_boundary(self, number: int, beside: int) -> None:
        """It is exactly when something begins or ends (a birthday too), or a microsecond before or after."""
        ahead = sorted({each for each in self.edges() if each + beside >= self.now})
        if ahead:
            self.now = ahead[number % len(ahead)] + beside

    # ---- people and records ----------------------------------------------------------------------------

    @step(patient=patients, what=st.sampled_from(("incapacitated", "unable", "egov")), yes=st.booleans())
    def change_of_state(self, patient: str, what: str, yes: bool) -> None:
        """Somebody cannot say what he wants, or again can; or comes to the portal."""
        self.write("patients", patient, replace(self.world.patients[patient], **{what: yes}))

    @step(delay=st.sampled_from((0, DAY, 9 * DAY)), patient=patients, certain=st.sampled_from((False, False, True)))
    def die(self, patient: str, delay: int, certain: bool) -> None:
        """A death is entered; three out of four were entered in error."""
        died = self.text(delay) if certain else None
        self.write("patients", patient, replace(self.world.patients[patient], deceased_at=died))

    @step(who=st.sampled_from(sorted(PEOPLE)), active=st.booleans(), suspended=st.booleans(),
          today=st.sampled_from((0, 10, 11)))  # fmt: skip
    def change_an_account(self, who: str, active: bool, suspended: bool, today: int) -> None:
        """Somebody leaves or comes back, broke the glass too often, or may not break it any more."""
        record = replace(PEOPLE[who], active=active, btg_suspended=suspended, btg_today=today)
        self.write("subjects", who, record)

    @step(patient=patients, kept=st.sampled_from(KEPT), labels=st.sampled_from(((), None, *((each,) for each in LABELS))),
          conf=st.sampled_from((None, None, "R", "V")), marks=st.sampled_from(("", "", "blocked", "destroyed")))  # fmt: skip
    def mark_a_record(self, patient: str, kept: str, labels: Any, conf: Any, marks: str) -> None:
        """A record is labelled, blocked or destroyed, or none of it."""
        name = f"{patient}-{kept}"
        state = {"blocked": marks == "blocked", "destroyed": marks == "destroyed"}
        self.write("records", name, replace(self.world.records[name], labels=labels, conf=conf, **state))

    @step(org=st.sampled_from(("h1", "h2", "pharmacy")), undertaking=st.booleans())
    def change_an_undertaking(self, org: str, undertaking: bool) -> None:
        """An organisation's word to comply ends, or is given again."""
        self.write("organisations", org, replace(self.world.organisations[org], undertaking=undertaking))

    @step(tie=st.sampled_from((f"{ADULT}-h1", f"{ADULT}-h2", f"{CHILD}-h1")), whose=st.sampled_from(PATIENTS))
    def move_a_tie(self, tie: str, whose: str) -> None:
        """A tie of care turns out to be another patient's."""
        self.write("relationships", tie, replace(self.world.relationships[tie], patient=whose))
