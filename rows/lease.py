"""Work is leased, so that a killed worker's work is taken over and a stalled worker's late hand is refused."""

from datetime import datetime, timedelta
from typing import Self, TypeVar

from django.db import models
from django.db.models import F, Q

from rows.clock import db_now

_M = TypeVar("_M", bound="Lease")


class LeaseQuerySet(models.QuerySet[_M]):
    def unleased(self, now: datetime) -> Self:
        """Rows nobody holds at `now` (the database's clock)."""
        return self.filter(Q(lease_until=None) | Q(lease_until__lt=now))


class Lease(models.Model):
    """A row that one worker at a time may work on, until `lease_until`, under an `epoch` that only grows.

    Every later UPDATE of the work carries the epoch: a worker that lost its lease changes nothing.
    """

    lease_until = models.DateTimeField(null=True, editable=False)
    epoch = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        abstract = True


def take_lease(row: _M, *, seconds: float) -> int | None:
    """The new epoch if this caller now holds `row` for `seconds`, None if somebody else does.

    Twice: the second caller gets None until the lease lapses. A conditional UPDATE decides.
    """
    now = db_now()
    manager = type(row)._default_manager
    taken = (
        manager.filter(pk=row.pk, epoch=row.epoch)
        .filter(Q(lease_until=None) | Q(lease_until__lt=now))
        .update(lease_until=now + timedelta(seconds=seconds), epoch=F("epoch") + 1)
    )
    if not taken:
        return None
    row.epoch += 1
    return row.epoch


def keep_lease(row: _M, *, seconds: float) -> bool:
    """Whether `row` is still ours under its epoch; if so for `seconds` more. Call it inside the work's transaction."""
    held = type(row)._default_manager.filter(pk=row.pk, epoch=row.epoch)
    return bool(held.update(lease_until=db_now() + timedelta(seconds=seconds)))


def end_lease(row: _M) -> None:
    """Nobody holds `row`, if it was ours; otherwise nothing changes."""
    type(row)._default_manager.filter(pk=row.pk, epoch=row.epoch).update(lease_until=None)
