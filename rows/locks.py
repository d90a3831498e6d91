"""A row that must stay as it is until our transaction ends, while others may rely on that too."""

from typing import Any

from django.db import connection, models


def hold_still(found: models.QuerySet[Any, Any]) -> list[tuple[Any, ...]]:
    """The rows of `found` (a `values_list`), which nobody changes before this transaction ends.

    Many may hold one row still at once; `select_for_update` would let them pass one by one, a thousand people
    redeeming one release among them. SQLite's writers are serialised anyway.
    """
    sql, params = found.query.sql_with_params()
    if connection.features.has_select_for_update:
        sql += " FOR SHARE"
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())
