"""
The models of Casbin's documentation, written anew: each with its policy, and requests with the documented answer.

``how`` is how `CompiledEnforcer` answers: "looked up", "every row" or "interpreted".
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from casbin.core_enforcer import EnforceContext

ALLOW = "some(where (p.eft == allow))"
NOT_DENY = "!some(where (p.eft == deny))"
BOTH = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
PRIORITY = "priority(p.eft) || deny"
SUBJECT_PRIORITY = "subjectPriority(p.eft) || deny"


@dataclass(frozen=True)
class Example:
    """One example; ``roles`` are the role definitions, ``policy`` its lines."""

    name: str
    request: str
    definition: str
    effect: str
    matcher: str
    policy: str
    asks: list[tuple[tuple[Any, ...], bool]]
    how: str = "looked up"
    roles: str = ""
    more: dict[str, str] = field(default_factory=dict)

    def model(self) -> str:
        """Return the text of ``model.conf``."""
        sections = {
            "request_definition": f"r = {self.request}", "policy_definition": f"p = {self.definition}",
            "role_definition": self.roles, "policy_effect": f"e = {self.effect}", "matchers": f"m = {self.matcher}",
        }  # fmt: skip
        return "\n".join(f"[{name}]\n{text}\n{self.more.get(name, '')}" for name, text in sections.items() if text)


BASIC = "p, alice, data1, read\np, bob, data2, write"
RBAC = BASIC + "\np, data2_admin, data2, read\np, data2_admin, data2, write\ng, alice, data2_admin"
SAME = "r.sub == p.sub && r.obj == p.obj && r.act == p.act"
ROLE = "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act"
ROLE_IN = "g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act"
DOMAINS = (
    "p, admin, domain1, data1, read\np, admin, domain1, data1, write\np, admin, domain2, data2, read\n"
    "p, admin, domain2, data2, write\ng, alice, admin, domain1\ng, bob, admin, domain2"
)
ALICE_1, ALICE_2 = SimpleNamespace(name="data1", Owner="alice"), SimpleNamespace(name="data2", Owner="bob")
YOUNG, GROWN, OLD = (SimpleNamespace(Age=age) for age in (16, 30, 70))

EXAMPLES = [
    Example("basic", "sub, obj, act", "sub, obj, act", ALLOW, SAME, BASIC, [
        (("alice", "data1", "read"), True), (("alice", "data1", "write"), False), (("bob", "data2", "write"), True)]),
    Example("basic with a comment", "sub, obj, act", "sub, obj, act", ALLOW, SAME + " # the same three", BASIC, [
        (("alice", "data1", "read"), True), (("bob", "data1", "read"), False)]),
    Example("basic with root", "sub, obj, act", "sub, obj, act", ALLOW, SAME + ' || r.sub == "root"', BASIC, [
        (("root", "data9", "anything"), True), (("alice", "data1", "read"), True), (("alice", "data2", "read"), False)]),
    Example("basic without users", "obj, act", "obj, act", ALLOW, "r.obj == p.obj && r.act == p.act",
        "p, data1, read\np, data2, write", [(("data1", "read"), True), (("data1", "write"), False)]),
    Example("basic without resources", "sub, act", "sub, act", ALLOW, "r.sub == p.sub && r.act == p.act",
        "p, alice, read\np, bob, write", [(("alice", "read"), True), (("bob", "read"), False)]),
    Example("basic inverse", "sub, obj, act", "sub, obj, act", NOT_DENY, SAME, BASIC, [
        (("alice", "data1", "read"), True), (("carol", "data9", "write"), True)]),
    Example("rbac", "sub, obj, act", "sub, obj, act", ALLOW, ROLE, RBAC, [
        (("alice", "data2", "write"), True), (("bob", "data2", "read"), False), (("alice", "data1", "read"), True)],
        roles="g = _, _"),
    Example("rbac with resource roles", "sub, obj, act", "sub, obj, act", ALLOW,
        "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act",
        "p, alice, data1, read\np, data_group_admin, data_group, write\ng, alice, data_group_admin\n"
        "g2, data1, data_group\ng2, data2, data_group",
        [(("alice", "data2", "write"), True), (("alice", "data2", "read"), False), (("bob", "data1", "write"), False)],
        roles="g = _, _\ng2 = _, _"),
    Example("rbac with domains", "sub, dom, obj, act", "sub, dom, obj, act", ALLOW, ROLE_IN, DOMAINS, [
        (("alice", "domain1", "data1", "read"), True), (("alice", "domain2", "data2", "read"), False),
        (("bob", "domain2", "data2", "write"), True)], roles="g = _, _, _"),
    Example("rbac with a hierarchy", "sub, obj, act", "sub, obj, act", ALLOW, ROLE,
        "p, alice, data1, read\np, admin, data1, write\np, data1_admin, data2, write\n"
        "g, alice, admin\ng, admin, data1_admin",
        [(("alice", "data2", "write"), True), (("admin", "data1", "read"), False)], roles="g = _, _"),
    Example("rbac with deny", "sub, obj, act", "sub, obj, act, eft", BOTH, ROLE,
        "p, alice, data1, read, allow\np, data2_admin, data2, read, allow\np, data2_admin, data2, write, allow\n"
        "p, alice, data2, write, deny\ng, alice, data2_admin",
        [(("alice", "data2", "read"), True), (("alice", "data2", "write"), False), (("bob", "data2", "read"), False)],
        roles="g = _, _"),
    Example("rbac with not-deny", "sub, obj, act", "sub, obj, act, eft", NOT_DENY, ROLE,
        "p, alice, data1, read, allow\np, data2_admin, data2, write, allow\np, alice, data2, write, deny\n"
        "g, alice, data2_admin",
        [(("alice", "data2", "write"), False), (("nobody", "data9", "read"), True)], roles="g = _, _"),
    Example("rbac with a custom hierarchy of wildcards", "sub, obj, act", "sub, obj, act", ALLOW,
        '(g(r.sub, p.sub) || p.sub == "*") && (p.obj == "*" || keyMatch(r.obj, p.obj)) && r.act == p.act',
        "p, *, /public/*, read\np, admin, *, write\ng, alice, admin",
        [(("bob", "/public/a", "read"), True), (("alice", "/x", "write"), True), (("bob", "/x", "write"), False)],
        roles="g = _, _"),
    Example("abac", "sub, obj, act", "sub, obj, act", ALLOW, "r.sub == r.obj.Owner", "p, any, any, any", [
        (("alice", ALICE_1, "read"), True), (("alice", ALICE_2, "read"), False)], how="every row"),
    Example("abac with rules", "sub, obj, act", "sub_rule, obj, act", ALLOW,
        "eval(p.sub_rule) && r.obj == p.obj && r.act == p.act",
        "p, r.sub.Age > 18, /data1, read\np, r.sub.Age < 60, /data2, write",
        [((GROWN, "/data1", "read"), True), ((YOUNG, "/data1", "read"), False), ((OLD, "/data2", "write"), False)],
        how="every row"),
    Example("abac with rules, looked up first", "sub, obj, act", "sub_rule, obj, act", ALLOW,
        "r.obj == p.obj && r.act == p.act && eval(p.sub_rule)",
        "p, r.sub.Age > 18 && r.sub.Age < 60, /data1, read\np, r.sub.Age < 60, /data2, write",
        [((GROWN, "/data1", "read"), True), ((OLD, "/data1", "read"), False), ((YOUNG, "/data2", "write"), True)]),
    Example("abac with rules and domains", "sub, dom, obj, act", "sub_rule, dom, obj, act", ALLOW,
        "eval(p.sub_rule) && r.dom == p.dom && r.obj == p.obj && r.act == p.act",
        "p, r.sub == 'bob' || r.sub == 'alice', domain1, data1, read\np, r.sub == 'root', domain1, data2, read",
        [(("alice", "domain1", "data1", "read"), True), (("root", "domain1", "data1", "read"), False)],
        how="every row"),
    Example("restful", "sub, obj, act", "sub, obj, act", ALLOW,
        "r.sub == p.sub && keyMatch(r.obj, p.obj) && regexMatch(r.act, p.act)",
        "p, alice, /alice_data/*, GET\np, alice, /alice_data/resource1, POST\np, cathy, /cathy_data, (GET)|(POST)",
        [(("alice", "/alice_data/x", "GET"), True), (("alice", "/alice_data/x", "POST"), False),
         (("cathy", "/cathy_data", "POST"), True)]),
    Example("restful, with names in the path", "sub, obj, act", "sub, obj, act", ALLOW,
        "r.sub == p.sub && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)",
        "p, alice, /alice_data/:resource, GET\np, alice, /alice_data2/:id/using/:resId, GET",
        [(("alice", "/alice_data/hello", "GET"), True), (("alice", "/alice_data2/1/using/2", "GET"), True),
         (("alice", "/alice_data", "GET"), False)]),
    Example("addresses", "sub, obj, act", "sub, obj, act", ALLOW,
        "ipMatch(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        "p, 192.168.2.0/24, data1, read\np, 10.0.0.0/16, data2, write",
        [(("192.168.2.123", "data1", "read"), True), (("192.168.0.123", "data1", "read"), False)], how="every row"),
    Example("globs", "sub, obj, act", "sub, obj, act", ALLOW,
        "r.sub == p.sub && globMatch(r.obj, p.obj) && r.act == p.act",
        "p, u1, /foo/*, read\np, u2, /foo*, read\np, u3, /*/foo/*, read",
        [(("u1", "/foo/sub", "read"), True), (("u2", "/foobar", "read"), True), (("u1", "/foo", "read"), False)]),
    Example("a list in the matcher", "sub, obj, act", "sub, obj", ALLOW,
        "g(r.sub, p.sub) && r.obj == p.obj && r.act in ('read', 'write')",
        "p, admin, data1\ng, alice, admin",
        [(("alice", "data1", "write"), True), (("alice", "data1", "delete"), False)], roles="g = _, _"),
    Example("priority by order", "sub, obj, act", "sub, obj, act, eft", PRIORITY, ROLE,
        "p, alice, data1, read, allow\np, data1_deny_group, data1, read, deny\np, data1_deny_group, data1, write, deny\n"
        "p, alice, data1, write, allow\ng, alice, data1_deny_group",
        [(("alice", "data1", "read"), True), (("alice", "data1", "write"), False)], roles="g = _, _"),
    Example("priority by number", "sub, obj, act", "priority, sub, obj, act, eft", PRIORITY, ROLE,
        "p, 10, data1_deny_group, data1, read, deny\np, 10, data1_deny_group, data1, write, deny\n"
        "p, 10, data2_allow_group, data2, read, allow\np, 1, alice, data1, write, allow\np, 1, alice, data1, read, allow\n"
        "p, 1, bob, data2, read, deny\ng, bob, data2_allow_group\ng, alice, data1_deny_group",
        [(("alice", "data1", "write"), True), (("bob", "data2", "read"), False)], roles="g = _, _"),
    Example("priority of subjects", "sub, obj, act", "sub, obj, act, eft", SUBJECT_PRIORITY, ROLE,
        "p, root, data1, read, deny\np, admin, data1, read, deny\np, editor, data1, read, deny\n"
        "p, jane, data1, read, allow\np, alice, data1, read, allow\ng, admin, root\ng, editor, admin\n"
        "g, jane, editor\ng, alice, editor",
        [(("jane", "data1", "read"), True), (("editor", "data1", "read"), False)], how="interpreted", roles="g = _, _"),
    Example("several definitions", "sub, obj, act", "sub, obj, act", ALLOW, ROLE,
        "p, data2_admin, data2, read\np2, r2.sub.Age > 18 && r2.sub.Age < 60, /data1, read, allow\n"
        "p2, r2.sub.Age > 60 && r2.sub.Age < 100, /data1, read, deny\ng, alice, data2_admin",
        [(("alice", "data2", "read"), True), ((EnforceContext("r2", "p2", "e", "m2"), GROWN, "/data1", "read"), True),
         ((EnforceContext("r2", "p2", "e", "m2"), OLD, "/data1", "read"), False)], how="looked up", roles="g = _, _",
        more={"request_definition": "r2 = sub, obj, act", "policy_definition": "p2 = sub_rule, obj, act, eft",
              "policy_effect": f"e2 = {BOTH}", "matchers": "m2 = eval(p2.sub_rule) && r2.obj == p2.obj && r2.act == p2.act"}),
    Example("temporal roles", "sub, obj, act", "sub, obj, act", ALLOW, ROLE,
        "p, alice, data1, read\np, data2_admin, data2, write\ng, alice, data2_admin, 0000-01-01 00:00:00, 0001-01-01 00:00:00",
        [(("alice", "data1", "read"), True)], how="interpreted", roles="g = _, _, (_, _)"),
]  # fmt: skip
