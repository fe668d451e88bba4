"""
Enforcement in Python: ask the sidecar before something is done, and do what its answer demands.

`Client` and `AsyncClient` ask, `Middleware` stands before an ASGI application.
Whatever goes wrong on the way is a denial.  Nothing of the server is imported.
"""

from ruqsat.pep.answers import Decision, Duty
from ruqsat.pep.client import AsyncClient, Client
from ruqsat.pep.middleware import Middleware

__all__ = ["AsyncClient", "Client", "Decision", "Duty", "Middleware"]
