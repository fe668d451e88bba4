"""What an examination says of a pack."""

from msgspec import Struct

from ruqsat.core.diagnostics import Diagnostic, Severity


class Verdict(Struct, frozen=True, omit_defaults=True):
    """
    The outcome of examining a pack; admitted only if nothing at all speaks against it.

    Attributes:
        digest: Of the set; empty if it could not be compiled.
        findings: Everything found, warnings among it.
        cases: How many policy cases were run.
        compared: How many answers were compared with stock pycasbin's.
        differences: Where the two engines differ, in words.
        seed: Of the sample, to repeat it.
        failure: Why there is no verdict: the examination could not begin, took too long, or died.
    """

    digest: str = ""
    findings: tuple[Diagnostic, ...] = ()
    cases: int = 0
    compared: int = 0
    differences: tuple[str, ...] = ()
    seed: int = 0
    failure: str = ""

    @property
    def admitted(self) -> bool:
        """Tell whether the pack may decide: none compared is as bad as a difference."""
        return bool(self.digest) and self.compared > 0 and not self.reasons()

    @property
    def is_final(self) -> bool:
        """Tell whether it is about the pack: another examination of the same bytes would say the same."""
        return not self.failure and (self.compared > 0 or bool(self.findings_against()))

    def findings_against(self) -> list[Diagnostic]:
        """Return the findings that are errors."""
        return [finding for finding in self.findings if finding.severity == Severity.ERROR]

    def reasons(self) -> list[str]:
        """Return what speaks against it, a line each."""
        lines = [self.failure] if self.failure else []
        for finding in self.findings_against():
            place = f"{finding.span.file}:{finding.span.line}" if finding.span.line else finding.span.file
            lines.append(f"{place}: {finding.message}")
        lines += [f"stock pycasbin differs: {difference}" for difference in self.differences]
        if not lines and not self.compared:
            lines.append("not one answer could be compared with stock pycasbin's in `policy_compare_seconds`")
        return lines
