"""The database's clock: leases compare times that one machine gave."""

from datetime import datetime

from django.db import connection
from django.db.models import DateTimeField, Func, Value
from django.utils import timezone


class DbNow(Func):
    """`db_now` in a statement: its instant, to the microsecond (`now()` is the transaction's)."""

    template = "clock_timestamp()"
    output_field = DateTimeField()

    def as_sqlite(self, compiler, connection, **extra):  # type: ignore[no-untyped-def]
        return compiler.compile(Value(db_now(), output_field=DateTimeField()))


def db_now() -> datetime:
    """The database's clock, aware, in UTC. SQLite lives in this process: there it is this machine's clock."""
    if connection.vendor == "sqlite":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment
