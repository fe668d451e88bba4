"""The journal is kept by months where the database can, and found by rule and by document, too."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_INDEXES = {"patient": "patient, at", "subject": "subject, at", "org": "org, at", "rule": "rule, at", "entry": "entry"}

# A word that no index can hold was never kept out of these two columns; from now on it is.
_COLUMNS = (
    "writer, segment, number, at, kind, entry, patient, subject, org, action, data_class, allowed, reason,"
    " CASE WHEN octet_length(rule) <= 2048 THEN rule END, basis,"
    " CASE WHEN octet_length(documents) <= 2048 THEN documents ELSE (SELECT string_agg(word, ' ' ORDER BY place)"
    "  FROM unnest(string_to_array(documents, ' ')) WITH ORDINALITY AS words (word, place)"
    "  WHERE octet_length(word) <= 2048) END,"
    " degraded, line"
)

# The months in UTC, from 2000 on to the next one of now, that lines are of: name, first microsecond, first one after.
_MONTHS = """
    SELECT to_char(month, 'YYYY_MM'), extract(epoch FROM month)::bigint * 1000000,
           extract(epoch FROM month + interval '1 month')::bigint * 1000000
    FROM (SELECT DISTINCT date_trunc('month', to_timestamp(at / 1000000) AT TIME ZONE 'UTC') AS month
          FROM journal_entry_whole) AS months
    WHERE month >= timestamp '2000-01-01'
      AND month <= date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month'
    ORDER BY month
"""


def upgrade() -> None:
    """Keep every line; SQLite has no partitions, and no index for one word of several."""
    if op.get_bind().dialect.name == "postgresql":
        _by_month()
    else:
        op.create_index("journal_entry_by_rule", "journal_entry", ["rule", "at"])


def _by_month() -> None:
    """Write the lines anew, into the partitions of their months, and then the indexes."""
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute("ALTER TABLE journal_entry RENAME TO journal_entry_whole")
    op.execute("CREATE TABLE journal_entry (LIKE journal_entry_whole) PARTITION BY RANGE (at)")
    op.execute("CREATE TABLE journal_entry_undated PARTITION OF journal_entry FOR VALUES FROM (0) TO (1)")
    op.execute("CREATE TABLE journal_entry_other PARTITION OF journal_entry DEFAULT")
    for month, begins, ends in op.get_bind().execute(sa.text(_MONTHS)).all():
        op.execute(
            f"CREATE TABLE journal_entry_{month} PARTITION OF journal_entry FOR VALUES FROM ({begins}) TO ({ends})"
        )
    op.execute(f"INSERT INTO journal_entry SELECT {_COLUMNS} FROM journal_entry_whole")  # noqa: S608
    op.execute("DROP TABLE journal_entry_whole")
    op.execute("ALTER TABLE journal_entry ADD CONSTRAINT journal_entry_pkey PRIMARY KEY (writer, segment, number, at)")
    for name, columns in _INDEXES.items():
        op.execute(f"CREATE INDEX journal_entry_by_{name} ON journal_entry ({columns})")
    op.execute(
        "CREATE INDEX journal_entry_by_document ON journal_entry USING gin (string_to_array(documents, ' '::text))"
    )
