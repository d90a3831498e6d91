"""Sets are written by one statement a table, however many rows."""

from collections.abc import Sequence
from typing import Any, cast

from django.core.exceptions import EmptyResultSet
from django.db import connection, models


def insert_from(source: models.QuerySet[Any, Any], model: type[models.Model], fields: Sequence[str]) -> int:
    """`INSERT INTO model (fields) SELECT … ON CONFLICT DO NOTHING`; returns how many rows are new.

    `source` is a `values_list` whose columns stand in the order of `fields` (names of concrete fields; the
    fields left out need a null or a database default). Twice: the rows that are there stay as they are.
    """
    quote = connection.ops.quote_name
    concrete = [cast("models.Field[Any, Any]", model._meta.get_field(field)) for field in fields]
    columns = ", ".join(quote(str(field.column)) for field in concrete)
    try:
        sql, params = source.query.sql_with_params()
    except EmptyResultSet:
        # Django knows without asking that nothing can match.
        return 0
    # SQLite cannot tell ON CONFLICT from a join's ON without the WHERE.
    statement = (
        f"INSERT INTO {quote(model._meta.db_table)} ({columns})"  # noqa: S608 – names from the models
        f" SELECT * FROM ({sql}) chosen WHERE true ON CONFLICT DO NOTHING"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return int(cursor.rowcount)
