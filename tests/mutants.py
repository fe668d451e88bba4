"""
Planted mistakes: a copy of a module with one line changed, to prove that a test would notice.

Nothing of the product is patched; the copy is another module, used by one test.
"""

import inspect
from types import ModuleType


def plant(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """Return a copy of *module* in which the text *right*, found exactly once, reads *wrong*."""
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{right!r} stands {source.count(right)} times in {module.__name__}"
    copy = ModuleType(module.__name__)
    exec(compile(source.replace(right, wrong), f"{module.__name__} (planted)", "exec"), copy.__dict__)
    return copy
