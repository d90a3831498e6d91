"""What the database knows of its tables, renewed by whoever filled one: the planner guesses badly until then."""

from django.db import connection, models

# A table that grew by fewer has changed little, or is small enough for any plan.
MANY = 50_000


def renew_statistics(*filled: type[models.Model], rows: int) -> None:
    """PostgreSQL looks at the tables of `filled` anew, which have just grown by about `rows`; else nothing.

    Autovacuum would come to that too, minutes later or never, and what reads them next is planned now. Takes parts of
    a second whatever their size, and holds nobody up. Call it outside the transaction that wrote.
    """
    if rows < MANY or connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        for model in filled:
            cursor.execute(f"ANALYZE {connection.ops.quote_name(model._meta.db_table)}")
