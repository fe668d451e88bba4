"""A drop-in `casbin.Enforcer` that compiles its policy: the same answers, without asking every row."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from threading import RLock
from typing import Any

import simpleeval
from casbin.core_enforcer import EnforceContext

import casbin
from ruqsat.casbin.compiled_section import CompiledSection, Source
from ruqsat.casbin.matcher_code import Untranslatable
from ruqsat.casbin.role_links import copy_of

_PRIMITIVE = frozenset({str, int, float, bool, type(None), bytes, complex})
_READERS = ("get_", "has_", "is_")
# Not wrapped: they neither read nor change the policy, or are answered below.
_FREE = frozenset({"enforce", "enforce_ex", "batch_enforce", "new_enforce_context", "new_model", "configure_logging"})


@dataclass(frozen=True, slots=True)
class SectionReport:
    """
    How one policy definition with one matcher is answered.

    Attributes:
        policy: Name of the policy definition, ``p`` or ``p2``.
        matcher: Name of the matcher, ``m`` or ``m2``.
        rows: Number of rows.
        compiled: False when pycasbin answers.
        keys: For each alternative of the matcher, the fields by which its rows are looked up.
        reason: Why pycasbin answers, or why every row is asked; empty when rows are looked up.
    """

    policy: str
    matcher: str
    rows: int
    compiled: bool
    keys: tuple[tuple[str, ...], ...]
    reason: str

    def __str__(self) -> str:
        where = f"{self.policy} with {self.matcher}, {self.rows} rows: "
        if not self.compiled:
            return where + f"interpreted by pycasbin, because {self.reason}"
        if not self.keys:
            return where + f"compiled, {self.reason}"
        keys = " or ".join(", ".join(key) or "the request alone" for key in self.keys)
        return where + "compiled, looked up by " + keys


class _Snapshot:
    """One state of an enforcer's policy; its sections are compiled when first asked."""

    def __init__(self, enforcer: "CompiledEnforcer") -> None:
        self._sources: dict[tuple[str, str, str], Source] = {}
        self._refused: dict[tuple[str, str, str], str] = {}
        self._sections: dict[tuple[str, str, str], CompiledSection | None] = {}
        model = enforcer.get_model()
        reason, functions = _functions_of(enforcer)
        effector = type(enforcer.eft)
        rows = {name: tuple(assertion.policy) for name, assertion in (model["p"] or {}).items()}
        for request_name, request in (model["r"] or {}).items():
            for policy_name, policy in (model["p"] or {}).items():
                for matcher_name, matcher in (model["m"] or {}).items():
                    names = (request_name, policy_name, matcher_name)
                    self._sources[names] = Source(
                        policy_name, tuple(request.tokens), tuple(policy.tokens), matcher.value, rows[policy_name],
                        effector, functions,
                    )  # fmt: skip
                    if reason:
                        self._refused[names] = reason

    def section(self, names: tuple[str, str, str]) -> CompiledSection | None:
        """Return the section, compiled now if it was not; None when pycasbin is to answer."""
        try:
            return self._sections[names]
        except KeyError:
            return self._compile(names)

    def report(self) -> tuple[SectionReport, ...]:
        """Return a report on the sections that go together by their names."""
        reports = []
        for names, source in self._sources.items():
            if len({name[1:] for name in names}) > 1:
                continue  # such a mixture is asked for by an EnforceContext only
            section = self.section(names)
            keys = () if section is None else section.keys
            reason = "" if keys else self._refused.get(names, "every row is asked: its matcher names no key to look up")
            reports.append(SectionReport(names[1], names[2], len(source.rows), section is not None, keys, reason))
        return tuple(reports)

    def _compile(self, names: tuple[str, str, str]) -> CompiledSection | None:
        section = None
        if names in self._sources and names not in self._refused:
            try:
                section = CompiledSection(self._sources[names])
            except Untranslatable as refusal:
                self._refused[names] = str(refusal)
        self._sections[names] = section
        return section


class CompiledEnforcer(casbin.Enforcer):  # type: ignore[misc]
    """
    A `casbin.Enforcer` whose answers come from compiled code over indexed rows.

    The constructor, the results and the management and RBAC API are the inherited
    ones.  A change of the policy takes effect with its return: the next question
    compiles the policy anew.  Any number of threads may ask while others change the
    policy: a question is answered by the old policy or by the new one, never by a
    mixture.  What cannot be compiled is answered by pycasbin itself, one thread at
    a time; `compilation_report` says what and why.

    Two things ask for care.  Whoever edits the model that `get_model` returns, or a
    role manager, calls `invalidate` after.  And a custom function must answer the
    same for the same arguments: it is not called for rows that cannot match.

    Example:
        >>> model = CompiledEnforcer.new_model(text='''
        ... [request_definition]
        ... r = sub, obj, act
        ... [policy_definition]
        ... p = sub, obj, act
        ... [policy_effect]
        ... e = some(where (p.eft == allow))
        ... [matchers]
        ... m = r.sub == p.sub && r.obj == p.obj && r.act == p.act''')
        >>> enforcer = CompiledEnforcer(model)
        >>> enforcer.add_policy("aida", "labs", "read")
        True
        >>> enforcer.enforce("aida", "labs", "read"), enforcer.enforce("aida", "labs", "write")
        (True, False)
        >>> print(*enforcer.compilation_report())
        p with m, 1 rows: compiled, looked up by p_sub, p_obj, p_act
    """

    _snapshot: _Snapshot | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._lock = RLock()
        super().__init__(*arguments, **named)

    def invalidate(self) -> None:
        """Compile the policy anew at the next question; to be called after editing the model directly."""
        with self._lock:
            self._snapshot = None

    def compilation_report(self) -> tuple[SectionReport, ...]:
        """Return, for each policy definition, whether it is compiled, how its rows are found, and if not, why."""
        return self._current().report()

    def enforce_ex(self, *values: Any) -> Any:
        """Decide as pycasbin does; return the decision and the row that pycasbin would name."""
        if not self.enabled:
            return [True, []]
        names, request = ("r", "p", "m"), values
        if values and isinstance(values[0], EnforceContext):
            context = values[0]
            names, request = (context.rtype, context.ptype, context.mtype), values[1:]
        section = self._current().section(names)
        if section is None:
            return self._interpret(values)
        try:
            for value in request:
                if type(value) not in _PRIMITIVE:
                    _CHECKER._check_disallowed_items(value)
            allowed, row = section.decide(request)
        except Exception:  # noqa: BLE001 - pycasbin decides, or raises what it always raised
            return self._interpret(values)
        if self.logger.isEnabledFor(logging.INFO if allowed else logging.WARNING):
            self.logger.log(
                logging.INFO if allowed else logging.WARNING,
                "Request: " + ", ".join([str(value) for value in request]) + f" ---> {allowed}",
            )
        return allowed, row

    def _interpret(self, values: tuple[Any, ...]) -> Any:
        with self._lock:
            return super().enforce_ex(*values)

    def _current(self) -> _Snapshot:
        snapshot = self._snapshot
        if snapshot is None:
            with self._lock:
                snapshot = self._snapshot
                if snapshot is None:
                    snapshot = self._snapshot = _Snapshot(self)
        return snapshot


_CHECKER = simpleeval.SimpleEval(functions={})


def _functions_of(enforcer: CompiledEnforcer) -> tuple[str, Mapping[str, Callable[..., Any]]]:
    """Return what a matcher may call, and why nothing can be compiled, if so."""
    functions: dict[str, Any] = {"list": list, "tuple": tuple, "dict": dict, "set": set}
    functions |= enforcer.fm.get_functions()
    try:
        if not simpleeval.DISALLOW_FUNCTIONS.isdisjoint(functions.values()):
            return "it has a function that must not be called", {}
    except TypeError:
        return "it has a function that cannot be compared", {}
    if enforcer.cond_rm_map:
        return "its role links have conditions", {}
    for name, assertion in (enforcer.get_model()["g"] or {}).items():
        if not enforcer.rm_map:
            break
        links = copy_of(assertion.rm)
        if links is None:
            return f"the role links of `{name}` are matched by patterns or kept by a role manager of your own", {}
        functions[name] = links.has_link
    if enforcer.get_model()["e"]["e"].value.startswith("subjectPriority"):
        return "its effect depends on the priority of subjects", {}
    return "", functions


def _guarded(method: Callable[..., Any], *, changes: bool) -> Callable[..., Any]:
    @wraps(method)
    def guarded(self: CompiledEnforcer, *arguments: Any, **named: Any) -> Any:
        with self._lock:
            try:
                return method(self, *arguments, **named)
            finally:
                if changes:
                    self._snapshot = None

    return guarded


def _guard_inherited() -> None:
    """Put every inherited method under the lock; all but the readers make the policy compile anew."""
    for name in dir(casbin.Enforcer):
        method = getattr(casbin.Enforcer, name)
        if callable(method) and not name.startswith("_") and name not in _FREE and not hasattr(object, name):
            setattr(CompiledEnforcer, name, _guarded(method, changes=not name.startswith(_READERS)))


_guard_inherited()
