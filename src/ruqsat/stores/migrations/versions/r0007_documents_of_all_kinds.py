"""Powers and requests are listed by their id as well; a prepared import says which version of a person it looked at."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_EXACT = sa.Text(collation="BINARY").with_variant(sa.Text(collation="C"), "postgresql")
_NUMBER = sa.Integer().with_variant(sa.BigInteger(), "postgresql")
_FIELDS = {"representation": "representations", "request": "requests"}
_PAGE = 1_000


def upgrade() -> None:
    """List them; what was prepared was checked less, and is dropped."""
    op.drop_table("facts_import")
    op.create_table(
        "facts_import",
        sa.Column("subject", sa.Integer, nullable=False),
        sa.Column("id", _EXACT, nullable=False),
        sa.Column("line", _NUMBER, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("set_aside", sa.Integer, nullable=False),
        sa.Column("version", _NUMBER, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.execute("DELETE FROM facts_import_document")
    op.execute("DELETE FROM facts_import_run")
    connection, after = op.get_bind(), ""
    page = sa.text("SELECT id, body FROM patient_facts WHERE id > :after ORDER BY id LIMIT :most")
    # Ids of these kinds were never compared: where two patients have the same, the first is listed.
    put = sa.text("INSERT INTO document (id, patient, kind) VALUES (:id, :patient, :kind) ON CONFLICT DO NOTHING")
    while rows := connection.execute(page, {"after": after, "most": _PAGE}).all():
        after = rows[-1].id
        listed = [
            {"id": item["id"], "patient": row.id, "kind": kind}
            for row in rows
            for kind, field in _FIELDS.items()
            if field.encode() in row.body
            for item in json.loads(row.body).get(field, ())
        ]
        if listed:
            connection.execute(put, listed)
