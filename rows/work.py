"""Work that waits in rows: taken up by a sweep, each item for itself, later each time it goes wrong.

A `Sweep` is a declaration: which rows are due, what is done with one, who is told when one keeps going wrong and what
becomes of it then. Whether two workers may do the same thing is the lease's business, not the sweep's.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Self, TypeVar

from django.db import connection, models
from django.db.models import F, Q
from django.utils import timezone

from rows.clock import db_now
from rows.lease import Lease, LeaseQuerySet

log = logging.getLogger(__name__)

# 30 seconds after the first time, four times as long after each further one, never longer than an hour.
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)
# What is away (a storage, a service) is asked again after this long; that is nobody's fault and counts as no attempt.
AWAY_WAIT = timedelta(minutes=1)
# So many times it went wrong: an operator is told; and, an hour and a half later, it is given up if it may be.
TELL_AT, GIVE_UP_AT = 3, 6

_W = TypeVar("_W", bound="Work")


class WorkQuerySet(LeaseQuerySet[_W]):
    def ready(self, now: datetime) -> Self:
        """Rows that nobody holds and whose next attempt may begin, at `now` (the database's clock)."""
        return self.unleased(now).filter(Q(not_before=None) | Q(not_before__lte=now))

    def troubled(self) -> Self:
        """Rows whose last attempt went wrong."""
        return self.filter(attempts__gt=0)


class Work(Lease):
    """Leased work that knows how often in a row it went wrong, when it is tried again, and what was said the last time."""

    attempts = models.PositiveIntegerField(default=0, editable=False)
    not_before = models.DateTimeField(null=True, editable=False)
    # For an operator, not for a page: it may name what nobody else should see.
    last_error = models.CharField(max_length=300, blank=True, editable=False)

    class Meta:
        abstract = True


@dataclass(frozen=True)
class Sweep(Generic[_W]):
    """One kind of work.

    `due` finds it at a moment (leases and waits are looked at here), `work` brings one row on by its key, `tell` says
    to an operator that a row keeps going wrong. With `give_up` a row ends after `GIVE_UP_AT` attempts; without it is
    tried for ever, at last once an hour.
    """

    due: Callable[[datetime], WorkQuerySet[_W]]
    work: Callable[[int], object]
    tell: Callable[[_W], None]
    give_up: Callable[[_W], object] | None = None

    def run(self, *, only: int | None = None) -> None:
        """Everything that is due (or `only` that) is brought on. One that raises keeps no other from its turn.

        Raises when the database itself is away: then it is nothing that a row did.
        """
        found = self.due(timezone.now()).ready(db_now())
        if only is not None:
            found = found.filter(pk=only)
        for key in list(found.values_list("pk", flat=True)):
            self._bring_on(found.model, key)

    def _bring_on(self, kind: type[_W], key: int) -> None:
        connection.ensure_connection()
        begun_on = connection.connection
        try:
            self.work(key)
        except Exception as error:
            # The end of a transaction connects anew by itself: that it can be used says nothing of what went wrong.
            if connection.connection is not begun_on or not connection.is_usable():
                raise
            log.exception("%s %s", kind._meta.label_lower, key)
            self._put_back(kind, key, error)
            return
        # Whoever holds it now may still fail; only what is let go of went well.
        well = kind._default_manager.filter(pk=key, attempts__gt=0, lease_until=None)
        well.update(attempts=0, not_before=None, last_error="")

    def _put_back(self, kind: type[_W], key: int, error: Exception) -> None:
        rows = kind._default_manager.filter(pk=key)
        attempts = rows.values_list("attempts", flat=True).first()
        if attempts is None:
            return
        wait = min(FIRST_WAIT * 4 ** min(attempts, 9), LONGEST_WAIT)
        rows.update(
            attempts=F("attempts") + 1,
            not_before=db_now() + wait,
            last_error=f"{type(error).__name__}: {error}".replace("\x00", "")[:300],
        )
        row = rows.get()
        if row.attempts >= TELL_AT:
            self.tell(row)
        if self.give_up and row.attempts >= GIVE_UP_AT:
            self.give_up(row)


def put_off(row: Work, error: Exception) -> None:
    """`row` waits for something that is away, a minute; that counts as no attempt. Twice: a minute from the later time."""
    rows = type(row)._default_manager.filter(pk=row.pk, epoch=row.epoch)
    rows.update(lease_until=None, not_before=db_now() + AWAY_WAIT, last_error=type(error).__name__)
