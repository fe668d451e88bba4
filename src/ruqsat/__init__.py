"""
Ruqsat (рұқсат, "permission"): an authorization sidecar for digital health.

Importing this package does nothing; the process is built by ``ruqsat.wiring``.
`CompiledEnforcer` is its compiler for other people's Casbin policies.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ruqsat.casbin.compiled_enforcer import CompiledEnforcer

__all__ = ["CompiledEnforcer", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the enforcer, and pycasbin with it, only when it is asked for."""
    if name == "CompiledEnforcer":
        return import_module("ruqsat.casbin.compiled_enforcer").CompiledEnforcer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
