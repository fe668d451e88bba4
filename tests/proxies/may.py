"""
The oracle: who may see what of the demo world through a proxy, as a table written by hand.

It shares no code with the product.  Whoever and whatever is not in it may not.
The people are those of the demo world: dr_aida works at h1, to which p-dana consented for treatment; dr_erlan works
at h2, to which nobody consented; dana is p-dana; dr_former has left; a stranger is known to nobody.
"""

READS = ("GET", "HEAD")

_O1 = "/patients/p-dana/labs/o1"
_O1_SPELLED_OTHERWISE = (
    # The same letters, escaped without need: every reader of URLs reads them alike.
    "/patients/p-dana/labs/o%31", "/patients/%70-dana/labs/o1", "/patients/p%2Ddana/labs/%6f1",
    "/%70atients/p%2ddana/labs/o1",
)  # fmt: skip
_DANAS = (
    # Order §28: the patient reads the own record, whatever its labels, the consents, and the journal of accesses.
    "/patients/p-dana/labs/o2", "/patients/p-dana/labs", "/patients/p-dana/labs/o%32",
    "/patients/p-dana/consent/c-dana-h1", "/patients/p-dana/journal",
)  # fmt: skip

MAY_READ: dict[str, tuple[str, ...]] = {
    # Not o2: it says HIV, which the consent does not name.  Not the list: it may hold o2.
    "dr_aida": (_O1, *_O1_SPELLED_OTHERWISE, "/directory"),
    "dr_erlan": ("/directory",),
    "dana": (_O1, *_O1_SPELLED_OTHERWISE, *_DANAS, "/directory"),
    # A good token is not enough: the directory must know the person, and as active.
    "dr_former": (),
    "stranger": (),
}

REACHES_AS = {
    # A proxy forwards the absolute form as the target in it (RFC 9112 §3.2.2), and that is what is judged.
    f"http://records.example{_O1}": _O1,
    "http://records.example/patients/p-dana/labs/o2": "/patients/p-dana/labs/o2",
    "http://records.example/directory": "/directory",
}


READ_BY_SOME_AS: dict[str | bytes, str] = {
    # Odd forms that one proxy refuses and another reads as a plain target.  It then asks for what it forwards, so
    # whoever may not see the plain target gets nothing by these.
    b"/directory\t": "/directory",
    "http:/directory": "/directory",
    "http:///directory": "/directory",
    "javascript:/directory": "/directory",
    "ftp://records.example/patients/p-dana/labs/o1": _O1,
    "ftp://records.example/patients/p-dana/labs/o2": "/patients/p-dana/labs/o2",
}


def may(person: str, method: str, target: str) -> bool:
    """Tell whether a request with exactly this method and target may reach the records server."""
    return method in READS and REACHES_AS.get(target, target) in MAY_READ.get(person, ())
