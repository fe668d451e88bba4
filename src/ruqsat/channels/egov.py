"""
The cabinet of e-government (order §20), through an adapter that the deployer installs and names.

There is no public interface of it to write against.  Without an adapter, notices of this
channel are skipped with that reason, and can be tried again once there is one.
"""

import importlib
import inspect

from ruqsat.errors import SettingsError
from ruqsat.service.delivery import Channel


def load_adapter(name: str) -> Channel:
    """
    Return the channel that ``module:factory`` makes; the factory takes nothing.

    Its ``send`` is a coroutine that promises what ``Channel`` does, and answers
    ``Outcome("skipped", "not_registered")`` for whoever has no cabinet.

    Raises:
        SettingsError: there is no such module or factory, it raised, or what it made sends nothing.
    """
    module, _, factory = name.partition(":")
    try:
        made: Channel = getattr(importlib.import_module(module), factory)()
    except Exception as error:
        raise SettingsError(f"`{name}` cannot be used: {type(error).__name__}") from error
    if not inspect.iscoroutinefunction(getattr(made, "send", None)):
        raise SettingsError(f"what `{name}` makes has no coroutine `send`")
    return made
