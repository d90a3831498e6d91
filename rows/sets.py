"""Sets are written by one statement a table, however many rows."""

from collections.abc import Sequence
from typing import Any

from django.db import connection, models


def insert_from(source: models.QuerySet[Any, Any], model: type[models.Model], fields: Sequence[str]) -> int:
    """`INSERT INTO model (fields) SELECT … ON CONFLICT DO NOTHING`; returns how many rows are new.

    `source` is a `values_list` whose columns stand in the order of `fields` (attribute names of concrete
    fields; the fields left out need a null or a database default). Twice: the rows that are there stay.
    """
    columns = ", ".join(
        connection.ops.quote_name(model._meta.get_field(field).column)
        for field in fields  # type: ignore[union-attr]
    )
    sql, params = source.query.sql_with_params()
    table = connection.ops.quote_name(model._meta.db_table)
    # SQLite cannot tell ON CONFLICT from a join's ON without the WHERE.
    statement = (
        f"INSERT INTO {table} ({columns}) SELECT * FROM ({sql}) chosen WHERE true ON CONFLICT DO NOTHING"  # noqa: S608
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return cursor.rowcount
