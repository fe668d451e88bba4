"""
One case: the request joined with the facts, as rules see it.

The four entities stay four.  What the caller said and what the store knows are
joined here and nowhere else, always to the narrower side: a role must be in
both, a label in either, a block in either.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct

from ruqsat.core.facts import Conf, Facts, PatientFacts, Stated, SubjectFacts, entry_id, higher
from ruqsat.core.instant import Instant, Now
from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    RequestContext,
    ResourceProperties,
    SubjectProperties,
)

_NO_SUBJECT = SubjectProperties()
_NO_RESOURCE = ResourceProperties()
_NO_CONTEXT = RequestContext()
_NOBODY = SubjectFacts(id="", active=False)
_NO_DEMAND = frozenset({"", "false"})


class _View(Struct, eq=False, gc=False):
    """
    The base of the four entities that rules see.

    They never form a cycle of references, which is why they can be kept from the garbage collector (``gc=False``).
    """

    def _kept(self) -> Mapping[str, Stated] | None:
        """Return the values that the directory holds of words which the pack declares."""
        return None


class _WithWords(_View):
    """
    An entity under a pack that declares words of its own.

    An attribute that the product does not have is such a word (the checker lets no other pass).
    Its value is the one stated or the one that the directory holds; None where there is
    neither, and where the two differ.
    """

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Stated | None:
            if name[:1] == "_" or hasattr(type(self), name):
                raise AttributeError(name)  # the product's own, and something went wrong with it
            said, kept = getattr(self._said, name, None), (self._kept() or {}).get(name)
            if said is None or kept is None:
                return kept if said is None else said
            # Two values: nobody knows which one holds.  True is no 1.
            return said if said == kept and isinstance(said, bool) == isinstance(kept, bool) else None


class SubjectView(_View):
    """``r.sub``: who asks."""

    _said: SubjectProperties
    _known: SubjectFacts
    id: str
    type: str
    active: bool
    roles: tuple[str, ...]
    org: str | None
    patient_id: str | None = None
    org_category: str | None = None
    org_undertakes: bool = False

    @classmethod
    def of(cls, request: EvaluationRequest, known: SubjectFacts) -> Self:
        """Join what is said of the subject with what is known."""
        subject = request.subject
        said = subject.properties or _NO_SUBJECT
        org = believed_org(said, known)
        employer = known.organisation if org is not None else None
        return cls(
            said,
            known,
            subject.id,
            subject.type,
            known.active and known.resource_type is None,
            believed_roles(said, known),
            org,
            known.patient_id,
            None if employer is None else employer.category,
            employer is not None and employer.undertaking,
        )

    @classmethod
    def of_organisation(cls, name: str) -> Self:
        """Return an organisation in the subject's place: no person, no role, no group."""
        return cls(_NO_SUBJECT, _NOBODY, name, "organisation", True, (), name)

    @classmethod
    def of_delegate(cls, name: str) -> Self:
        """Return a third person in the subject's place, of whom nothing is known but what the patient made them."""
        return cls(_NO_SUBJECT, _NOBODY, name, "user", True, ("delegate",), None)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of the directory."""
        return self._known.groups

    @property
    def btg_suspended(self) -> bool:
        """The right to break the glass is suspended."""
        return self._known.btg_suspended

    @property
    def btg_today(self) -> int:
        """Break-glass sessions opened today, as a file of facts says."""
        return self._known.btg_today

    @property
    def btg_opened(self) -> tuple[Instant, ...]:
        """When break-glass sessions were opened lately, as the registry counts them."""
        return self._known.btg_opened

    @property
    def sessions(self) -> tuple[str, ...]:
        """Break-glass sessions of the subject, for whichever patient."""
        return self._known.sessions

    @property
    def supervised(self) -> bool:
        """Works under a supervisor who is named."""
        return self._known.supervised_by is not None

    def _kept(self) -> Mapping[str, Stated] | None:
        return self._known.properties


class ActionView(_View):
    """``r.act``: what the subject wants to do."""

    _said: Struct | None
    name: str

    @classmethod
    def of(cls, action: Action) -> Self:
        """Return the action as it is stated; without properties every word is absent."""
        return cls(action.properties, action.name)


class ResourceView(_View):
    """``r.res``: what it wants to do it to."""

    _said: ResourceProperties
    _entry: SubjectFacts | None
    id: str
    type: str
    patient: str | None
    data_class: str | None
    labels: tuple[str, ...] | None
    conf: Conf | None
    blocked: bool
    state_secret: bool
    parts: tuple[dict[str, Any], ...] | None
    destroyed: bool = False

    @classmethod
    def of(cls, request: EvaluationRequest, patient: PatientFacts | None, entry: SubjectFacts | None) -> Self:
        """Join what is said of the resource with what is known."""
        resource = request.resource
        said = resource.properties or _NO_RESOURCE
        view = cls(
            said,
            entry,
            resource.id,
            resource.type,
            said.patient,
            said.data_class,
            said.labels,
            said.conf,
            said.blocked,
            said.state_secret,
            said.parts,
        )
        if patient is not None and patient.records:
            view._join_record(patient)
        return view

    def _kept(self) -> Mapping[str, Stated] | None:
        entry = self._entry
        return None if entry is None or entry.id != entry_id(self.type, self.id) else entry.properties

    @property
    def deidentified(self) -> bool:
        """Without identity."""
        return self._said.deidentified

    @property
    def codes(self) -> tuple[str, ...] | None:
        """Codes of the record; None is unknown."""
        return self._said.codes

    @property
    def database_country(self) -> str | None:
        """Country of the database that it would be kept in."""
        return self._said.database_country

    @property
    def immigrant(self) -> bool:
        """An immigrant's document (Code 60(1-1))."""
        return self._said.immigrant

    @property
    def id_document_copy(self) -> bool:
        """A copy of an identity document."""
        return self._said.id_document_copy

    @property
    def atomic(self) -> bool:
        """All parts or none."""
        return self._said.atomic

    @property
    def author(self) -> str | None:
        """Who wrote it."""
        return self._said.author

    @property
    def author_org(self) -> str | None:
        """Whose it is."""
        return self._said.author_org

    @property
    def created(self) -> str | None:
        """Date of the record."""
        return self._said.created

    @property
    def encounter(self) -> str | None:
        """Visit it belongs to."""
        return self._said.encounter

    @property
    def self_consented(self) -> bool:
        """Of a visit that an adolescent consented to alone."""
        return self._said.self_consented

    def _join_record(self, patient: PatientFacts) -> None:
        known = patient.known_record(self.type, self.id)
        if known is None:
            return
        for each in known.own:
            if each.labels is not None:
                self._take_labels(each.labels, each.org)
        if known.labels:
            self._join_labels(known.labels)
        self.blocked = self.blocked or known.blocked
        self.destroyed = known.destroyed
        self.conf = higher(self.conf, known.conf)
        for data_class in known.data_classes:
            if data_class != self.data_class:
                # Two classes for one record: nobody knows what would be opened.
                self.data_class = None

    def _take_labels(self, labels: tuple[str, ...], org: str | None) -> None:
        """
        Take the labels on file for all that the record bears.

        That it bears no others, only the organisation that reported the record can say: where the
        request names another one as the author's, the labels stay as stated, unknown included.
        """
        if org is None or self.author_org in (None, org):
            self.labels = tuple({*labels, *self.labels}) if self.labels else labels

    def _join_labels(self, labels: frozenset[str]) -> None:
        """Add labels."""
        if self.labels is not None:
            self.labels = tuple({*labels, *self.labels})
        else:
            # Neither these alone nor unknown ones: nobody knows what would be opened.
            self.data_class = None


class _SubjectWithWords(_WithWords, SubjectView):
    pass


class _ActionWithWords(_WithWords, ActionView):
    pass


class _ResourceWithWords(_WithWords, ResourceView):
    pass


class ContextView(_View):
    """
    ``r.ctx``: the circumstances; those that only the store may know come from the facts.

    ``worked_out`` holds the answers of the sections (entitlement, consent, …), so
    that several rules asking the same share one answer.
    """

    _said: RequestContext
    _sub: SubjectView
    facts: Facts
    now: Now
    worked_out: dict[str, Any]
    purpose: tuple[str, ...]
    destination_country: str | None
    relink: bool
    smart_scopes: tuple[str, ...] | None
    links_databases: bool
    harmful: bool
    consents_known: bool
    unable: bool

    @classmethod
    def of(cls, request: EvaluationRequest, facts: Facts, now: Now, sub: SubjectView) -> Self:
        """Join the circumstances that are stated with those that are known."""
        said = request.context or _NO_CONTEXT
        return cls(
            said,
            sub,
            facts,
            now,
            {},
            (said.purpose,) if isinstance(said.purpose, str) else said.purpose or (),
            said.destination_country,
            said.relink,
            said.smart_scopes,
            said.links_databases,
            said.harmful,
            facts.consents_known,
            facts.patient is not None and facts.patient.unable,
        )

    @property
    def art16_3(self) -> str | None:
        """Ground of Law 94-V art. 16(3)."""
        return self._said.art16_3

    @property
    def btg_session(self) -> str | None:
        """Break-glass session named."""
        return self._said.btg_session

    @property
    def pep_capabilities(self) -> tuple[str, ...] | None:
        """What the enforcement point says it can do for this request."""
        return self._said.pep_capabilities

    @property
    def legal_request(self) -> str | None:
        """Reference of the request of an authority, if one is stated."""
        return None if self._said.legal_request is None else self._said.legal_request.ref

    @property
    def inspection(self) -> str | None:
        """Number of the act of inspection, if one is stated; empty if it has none."""
        return None if self._said.inspection is None else self._said.inspection.act_no or ""

    @property
    def recipient(self) -> str | None:
        """Who would get the data."""
        return self._said.recipient

    @property
    def recipient_category(self) -> str | None:
        """Category of the recipient after Code art. 61(1), where the directory lists it as an organisation."""
        entry = self._recipient()
        return None if entry is None or entry.organisation is None else entry.organisation.category

    @property
    def recipient_undertakes(self) -> bool:
        """The recipient undertook to comply (order §25)."""
        entry = self._recipient()
        return entry is not None and entry.organisation is not None and entry.organisation.undertaking

    def _recipient(self) -> SubjectFacts | None:
        entry = self.facts.recipient
        return entry if entry is not None and entry.active and entry.id == self._said.recipient else None

    @property
    def art137_1(self) -> str | None:
        """Ground of Code art. 137(1) for care without consent, attested by a clinician."""
        return self._said.art137_1

    @property
    def suspected_crime(self) -> bool:
        """Grounds to believe that harm came from unlawful acts (Code 273(4)(5))."""
        return self._said.suspected_crime

    @property
    def mental_deviation(self) -> bool:
        """Attested by a clinician (Code 273(4)(6))."""
        return self._said.mental_deviation

    @property
    def sexual_violence_inclination(self) -> bool:
        """Attested by a clinician (Code 273(4)(6))."""
        return self._said.sexual_violence_inclination

    @property
    def subject_demand(self) -> bool:
        """The patient or the representative demands it (order §24)."""
        said = self._said.subject_demand
        return said.strip().lower() not in _NO_DEMAND if isinstance(said, str) else said is True

    @property
    def defer_notice(self) -> str | None:
        """The written ground for telling the patient later: stated of the request of an authority, or beside it."""
        asked = self._said.legal_request
        grounds = (self._said.defer_notice, None if asked is None else asked.defer_notice)
        return next((ground for ground in grounds if ground is not None and ground.strip()), None)

    @property
    def cohort_size(self) -> int | None:
        """How many people an answer would be about."""
        return self._said.cohort_size

    @property
    def source(self) -> str | None:
        """Where data that are written down come from (order §7)."""
        return self._said.source

    @property
    def own_episode(self) -> bool:
        """An episode of care, of any form, is open at the subject's own organisation."""
        return self._own_episode(consented=False)

    @property
    def care_consent(self) -> bool:
        """In such an episode the informed consent to care is recorded (Code 60(1))."""
        return self._own_episode(consented=True)

    @property
    def deceased(self) -> bool:
        """The patient is dead, or may be by now."""
        patient = self.facts.patient
        return patient is not None and patient.deceased_at is not None and patient.deceased_at <= self.now.hi

    @property
    def represented(self) -> bool:
        """Somebody may represent the patient: a power that has not surely ended, verified or not."""
        patient, now = self.facts.patient, self.now
        return patient is not None and any(
            (power.end is None or now.lo < power.end) and (power.revoked_at is None or now.lo < power.revoked_at)
            for power in patient.representations
        )

    def said(self) -> RequestContext:
        """Return what the caller stated, for functions that read more of it than an attribute."""
        return self._said

    def _own_episode(self, *, consented: bool) -> bool:
        patient, org, now = self.facts.patient, self._sub.org, self.now
        return (
            patient is not None
            and org is not None
            and any(
                episode.org == org
                and episode.start <= now.lo
                and (episode.end is None or now.hi < episode.end)
                and (episode.care_consent or not consented)
                for episode in patient.episodes
            )
        )

    @property
    def emergency(self) -> bool:
        """Order §4: an emergency or urgent episode of the subject's own organisation is open."""
        patient = self.facts.patient
        return patient is not None and open_emergency(patient, self._sub.org, self.now)

    @property
    def relationship(self) -> str | None:
        """Why the subject takes part in the patient's care; None if nothing says so."""
        patient, sub, now = self.facts.patient, self._sub, self.now
        for tie in () if patient is None else patient.relationships:
            if (
                (tie.subject is not None or tie.org is not None)
                and (tie.subject is None or tie.subject == sub.id)
                and (tie.org is None or tie.org == sub.org)
                and (tie.start is None or tie.start <= now.lo)
                and (tie.end is None or now.hi < tie.end)
            ):
                return tie.kind
        return None


class Case(Struct, eq=False, gc=False):
    """The four entities of one evaluation, and the facts and the moment they were made from."""

    sub: SubjectView
    act: ActionView
    res: ResourceView
    ctx: ContextView
    facts: Facts
    now: Now

    @classmethod
    def of(cls, request: EvaluationRequest, facts: Facts, now: Now, with_words: bool = True) -> Self:
        """
        Join a request with the facts.

        Args:
            with_words: The pack may have words of its own.  Where it has none, every attribute
                is read several times faster, since none has to be looked for among them.
        """
        known = facts.subject if facts.subject is not None else _NOBODY
        if with_words:
            sub: SubjectView = _SubjectWithWords.of(request, known)
            act: ActionView = _ActionWithWords.of(request.action)
            res: ResourceView = _ResourceWithWords.of(request, facts.patient, facts.resource)
        else:
            sub = SubjectView.of(request, known)
            act = ActionView.of(request.action)
            res = ResourceView.of(request, facts.patient, facts.resource)
        return cls(sub, act, res, ContextView.of(request, facts, now, sub), facts, now)


def believed_roles(said: SubjectProperties, known: SubjectFacts) -> tuple[str, ...]:
    """
    Return the roles that count: those both stated and in the directory; where one of the two says nothing, the other's.

    Examples:
        >>> believed_roles(SubjectProperties(roles=("nurse", "physician")), SubjectFacts("b", roles=("nurse",)))
        ('nurse',)
    """
    if said.roles is None:
        return known.roles or ()
    if known.roles is None or said.roles == known.roles:
        return said.roles
    return _in_both(said.roles, known.roles)


def _in_both(ones: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one for one in ones if one in others)


def believed_org(said: SubjectProperties, known: SubjectFacts) -> str | None:
    """
    Return the organisation that somebody acts for: the directory's; None where another is stated, or it has none.

    Examples:
        >>> believed_org(SubjectProperties(), SubjectFacts("b", org="h1"))
        'h1'
        >>> believed_org(SubjectProperties(org="h2"), SubjectFacts("b", org="h1"))
    """
    return known.org if said.org is None or said.org == known.org else None


def open_emergency(patient: PatientFacts, org: str | None, now: Now) -> bool:
    """Tell whether an emergency or urgent episode of an organisation is open for the patient (order §4)."""
    if org is None:
        return False
    for episode in patient.episodes:
        if (
            episode.org == org
            and episode.form_of_care != "planned"
            and episode.start <= now.lo
            and (episode.end is None or now.hi < episode.end)
        ):
            return True
    return False
