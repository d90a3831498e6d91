"""Contacts are searched by any part of their address or name, one creator's at a time, however many others there are.

That takes two of PostgreSQL's own extensions, which whoever owns the database may make. Where they may not be made
the migration says so and goes on: in large groups people are then found by the beginning of their address. Migrating
this room back by one and forwards again tries once more.
"""

from typing import Any

from django.db import migrations, transaction
from django.db.utils import NotSupportedError, OperationalError, ProgrammingError

EXTENSIONS = ["pg_trgm", "btree_gin"]
# The creator is in the index: the words of a large neighbour's million are then not looked at. `groups.models.Said`
# asks for the very same expression.
BY_WORDS = (
    "CREATE INDEX IF NOT EXISTS contact_by_words ON groups_contact"
    " USING gin (creator_id, upper(address_key || ' ' || name) gin_trgm_ops)"
)
# Whatever the database's collation, by which the unique pair is in order.
BY_PREFIX = "CREATE INDEX IF NOT EXISTS contact_by_prefix ON groups_contact (creator_id, address_key text_pattern_ops)"


def make_indexes(_apps: Any, schema_editor: Any) -> None:
    connection = schema_editor.connection
    if connection.vendor != "postgresql":
        return
    schema_editor.execute(BY_PREFIX)
    try:
        with transaction.atomic(using=connection.alias):
            for extension in EXTENSIONS:
                schema_editor.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")
            schema_editor.execute(BY_WORDS)
    except (NotSupportedError, OperationalError, ProgrammingError) as refused:
        print(f"\n    People are found by the beginning of their address only: {refused}".rstrip())  # noqa: T201


def drop_indexes(_apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX IF EXISTS contact_by_words")
        schema_editor.execute("DROP INDEX IF EXISTS contact_by_prefix")


class Migration(migrations.Migration):
    dependencies = [("groups", "0005_counted")]

    operations = [migrations.RunPython(make_indexes, drop_indexes, elidable=False)]
