"""Forward-auth for one record of a FHIR server: asked about once its server said whose it is, refused otherwise."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from ruqsat.core.admission import Pack
from ruqsat.core.decision import Decision, deny
from ruqsat.core.fhir.meaning import Lookup
from ruqsat.core.fhir.records import Seen
from ruqsat.core.routes import RouteTable
from ruqsat.errors import StoreUnavailableError
from ruqsat.web.forward_auth import Aids, ForwardAuth
from ruqsat.web.load import Load
from tests.web.test_forward_auth import ALLOW, DIALECTS, VERIFIER, Scripted, ask, routes  # noqa: F401 - a fixture

O1 = "/fhir/Observation/o1"
SEEN = Seen("Observation", "o1", "p1", ("labs",))


class Looks:
    """Look-ups that find what they are told, and remember what they were asked and told to forget."""

    def __init__(self, outcome: Seen | BaseException | None) -> None:
        self.outcome = outcome
        self.asked: list[Lookup] = []
        self.forgotten: list[tuple[str, str]] = []
        self.while_asked: Callable[[], None] = lambda: None

    async def find(
        self, lookups: tuple[Lookup, ...], words: object, *, fresh: bool = False
    ) -> Mapping[Lookup, Seen | None]:
        """Return what it was told."""
        self.fresh = fresh
        self.asked += lookups
        self.while_asked()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return dict.fromkeys(lookups, self.outcome)

    def forget(self, kind: str, name: str) -> None:
        """Remember."""
        self.forgotten.append((kind, name))


def app(point: Scripted, routes: RouteTable, looks: Looks | None, load: Load | None = None) -> ForwardAuth:  # noqa: F811
    """The application, with look-ups for the base of the shipped routes."""
    lookups: Any = {} if looks is None else {"/fhir": looks}
    return ForwardAuth(point, VERIFIER, routes, load=load, aids=Aids(lookups=lookups))


def test_what_one_set_has_read_no_other_decides(routes: RouteTable) -> None:  # noqa: F811
    """Another pack comes in force while the server of the record is asked: the request ends under the one that read it."""
    sets, asked_of = [cast(Any, object()), cast(Any, object())], list[object]()

    class Noting(Scripted):
        async def decide(self, request: Any, origin: Any, policy_set: object = None) -> Any:
            asked_of.append(policy_set)
            return await super().decide(request, origin, policy_set)

    looks = Looks(SEEN)
    asks = ForwardAuth(Noting(ALLOW), VERIFIER, routes, sets[0], aids=Aids(lookups=cast(Any, {"/fhir": looks})))
    looks.while_asked = lambda: asks.put_in_force(Pack(sets[1], routes))
    for _ in sets:
        assert ask(asks, "nginx", target=O1)[0] == 200

    assert asked_of == sets


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_record_is_asked_about_as_its_patients(dialect: str, routes: RouteTable) -> None:  # noqa: F811
    """Patient and class come from the server of the record; the answer is the decision point's."""
    point, looks = Scripted(ALLOW), Looks(SEEN)

    status, headers = ask(app(point, routes, looks), dialect, target=O1)

    assert (status, headers["x-ruqsat-subject"], looks.asked) == (200, "dr", [Lookup("Observation", "o1")])
    (asked,) = point.asked
    assert asked.resource.properties is not None
    said = (
        asked.action.name,
        asked.resource.type,
        asked.resource.id,
        asked.resource.properties.patient,
        asked.resource.properties.data_class,
    )
    assert said == ("read", "Observation", "o1", "p1", "labs")
    assert asked.resource.properties.labels is None


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("outcome", "reason"), [
    (None, "fhir.unresolved"), (Seen("Observation", "o2", "p1", ("labs",)), "fhir.patients_disagree"),
    (StoreUnavailableError("x"), "fhir.lookup_failed"),
])  # fmt: skip
def test_without_an_answer_nobody_is_asked_and_nothing_passes(
    dialect: str,
    outcome: Any,
    reason: str,
    routes: RouteTable,  # noqa: F811
) -> None:
    """No record, another record, no server: 403, and the journal has the reason."""
    point = Scripted(ALLOW)

    status, headers = ask(app(point, routes, Looks(outcome)), dialect, target=O1)

    assert (status, headers["x-ruqsat-reason"], point.asked, point.refusals) == (403, "not_permitted", [], [reason])


@pytest.mark.parametrize(
    "failure", [ValueError("x"), KeyError("x"), MemoryError(), RecursionError(), OSError(), asyncio.CancelledError()]
)
def test_a_look_up_that_breaks_denies(failure: BaseException, routes: RouteTable) -> None:  # noqa: F811
    """Whatever is raised while looking up, the answer is a denial, and the request is under way no more."""
    load = Load(1)

    for _ in range(2):
        assert ask(app(Scripted(ALLOW), routes, Looks(failure), load), "envoy", target=O1)[0] == 403
    assert load.now == 0


def test_a_forbidden_record_and_an_unknown_one_are_told_apart_by_nothing(routes: RouteTable) -> None:  # noqa: F811
    """The same status, the same headers with values of the same kind, whatever the exact reason is."""
    forbidden = [
        Scripted(deny(reason))
        for reason in ("deny.consent.none", "deny.role.action", "deny.store.unavailable", "deny.emergency.btg_required")
    ]
    told = [ask(app(point, routes, Looks(SEEN)), "nginx", target=O1) for point in forbidden]
    unknown = [
        ask(app(Scripted(ALLOW), routes, Looks(outcome)), "nginx", target=O1)
        for outcome in (None, StoreUnavailableError("x"))
    ]

    for status, headers in (*told, *unknown):
        assert (status, headers["x-ruqsat-reason"], headers["x-ruqsat-subject"]) == (403, "not_permitted", "")
        assert set(headers) == set(told[0][1]) and bool(headers["x-ruqsat-decision"])


def test_a_patient_who_is_named_is_told_the_reason_as_before(routes: RouteTable) -> None:  # noqa: F811
    """Only where no patient is named must the reason stay hidden."""
    assert (
        ask(app(Scripted(deny("deny.consent.none")), routes, Looks(SEEN)), "nginx", target="/fhir/Patient/p1")[1][
            "x-ruqsat-reason"
        ]
        == "consent_required"
    )


def test_nothing_is_looked_up_without_need(routes: RouteTable) -> None:  # noqa: F811
    """Named patients, terminology, what is refused anyway, callers without a token, and routes of other systems."""
    looks = Looks(SEEN)
    served = app(Scripted(ALLOW), routes, looks)

    for target in ("/fhir/Patient/p1", "/fhir/metadata", "/fhir/Observation?patient=p1", "/patients/p1/labs/o1", "/fhir/Observation/o1/_history",
                   "/fhir/Observation/o1?_elements=code", "/fhir/observation/o1", "/fhir/Observation/o1/"):  # fmt: skip
        ask(served, "envoy", target=target)
    ask(served, "envoy", [(b"authorization", b"Bearer x")], target=O1)
    for method in ("PUT", "PATCH", "POST"):
        ask(served, "envoy", target=O1, method=method)
    assert looks.asked == []


def test_without_a_server_to_ask_a_record_is_refused(routes: RouteTable) -> None:  # noqa: F811
    """As before: a base for which no server is configured."""
    point = Scripted(ALLOW)

    assert ask(app(point, routes, None), "nginx", target=O1)[0] == 403
    assert (point.asked, point.refusals) == ([], ["fhir.lookup"])


def test_a_permitted_deletion_is_forgotten_and_a_reading_or_a_denial_is_not(routes: RouteTable) -> None:  # noqa: F811
    """What is known of a record is dropped before the proxy lets its change through."""
    for decision, method, forgotten in (
        (ALLOW, "DELETE", [("Observation", "o1")]), (ALLOW, "GET", []), (ALLOW, "HEAD", []), (deny("deny.default"), "DELETE", []),
    ):  # fmt: skip
        looks, point = Looks(SEEN), Scripted(decision)
        ask(app(point, routes, looks), "nginx", target=O1, method=method)
        assert (looks.forgotten, len(point.asked)) == (forgotten, 1), method


def test_labels_that_were_seen_are_parts_that_must_all_be_permitted(routes: RouteTable) -> None:  # noqa: F811
    """Never stated as all the labels that there are."""
    point = Scripted(ALLOW)

    ask(app(point, routes, Looks(Seen("Observation", "o1", "p1", ("labs",), ("HIV",)))), "nginx", target=O1)

    properties = point.asked[0].resource.properties
    assert properties is not None and properties.atomic and properties.labels is None
    assert [part["labels"] for part in properties.parts or ()] == [None, ("HIV",)]


def test_a_version_asks_for_the_record_now_as_well(routes: RouteTable) -> None:  # noqa: F811
    """Both look-ups go to the server of the base."""
    looks = Looks(SEEN)

    ask(app(Scripted(ALLOW), routes, looks), "nginx", target="/fhir/Observation/o1/_history/2")

    assert looks.asked == [Lookup("Observation", "o1"), Lookup("Observation", "o1", version="2")]


def test_what_waits_for_a_look_up_is_under_way(routes: RouteTable) -> None:  # noqa: F811
    """Known or unknown, a record that is asked for amid too much else is turned away the same."""
    load, looks = Load(1), Looks(SEEN)
    looks.while_asked = lambda: seen.append(load.now)
    seen: list[int] = []

    ask(app(Scripted(ALLOW), routes, looks, load), "nginx", target=O1)
    assert (seen, load.now) == ([1], 0)
    load.enter()
    for outcome in (SEEN, None):
        assert (
            ask(app(Scripted(ALLOW), routes, Looks(outcome), load), "nginx", target=O1)[1]["x-ruqsat-reason"]
            == "overloaded"
        )


def test_only_true_is_an_allow_after_a_look_up(routes: RouteTable) -> None:  # noqa: F811
    """A decision whose `allowed` is anything but True is a denial here, too, and forgets nothing."""
    looks = Looks(SEEN)
    odd = Decision(1, "allow.consent", "consent", "consent-01", ("R3",))  # type: ignore[arg-type]

    assert ask(app(Scripted(odd), routes, looks), "envoy", target=O1, method="DELETE")[0] == 403
    assert looks.forgotten == []
