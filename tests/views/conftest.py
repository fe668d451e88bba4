"""A database of each kind in turn."""

import asyncio
from pathlib import Path

import pytest

from ruqsat.stores.sql_database import upgrade_database


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with its tables."""
    if request.param == "postgres":
        return str(request.getfixturevalue("truth"))
    asyncio.run(upgrade_database(f"sqlite:///{tmp_path}/truth.db"))
    return f"sqlite:///{tmp_path}/truth.db"
