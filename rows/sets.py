"""Sets are written by one statement a table, however many rows, and named by one parameter."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

from django.core.exceptions import EmptyResultSet
from django.db import connection, models


def among(column: str, values: Iterable[int | str]) -> models.Func | models.Q:
    """Whether the field `column` is one of `values`, all numbers or all texts: a condition for `filter`.

    They are one parameter: an `IN` of a thousand takes longer to build, quote and parse than to answer.
    """
    chosen = list(values)
    if not chosen:
        return models.Q(pk__in=[])
    one: models.Value
    if connection.vendor == "postgresql":
        # Of the column's own width: only then they are hashed, not compared with each row one by one.
        kind = "text" if isinstance(chosen[0], str) else "bigint"
        one, joiner, end = models.Value(chosen, models.Field()), " = ANY(", f"::{kind}[])"
    else:
        one, joiner, end = models.Value(json.dumps(chosen)), " IN (SELECT value FROM json_each(", "))"
    return models.Func(
        models.F(column),
        one,
        template=f"%(expressions)s{end}",
        arg_joiner=joiner,
        output_field=models.BooleanField(),
    )


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
