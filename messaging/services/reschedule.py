"""A confirmed message at another time: moved, or left as it was."""

from datetime import datetime

from django.db import transaction
from django.utils.translation import gettext as _

from accounts.models import User
from accounts.services import record
from distribution.services import reschedule_release
from groups.rights import Right
from groups.services.staff import require_right
from messaging import throttle
from messaging.models import Message
from messaging.services.confirm import FARTHEST
from messaging.services.plan import audience_groups
from messaging.services.refused import ConfirmRefused, NotReady, TooSoon
from messaging.services.reminders import check_time, refuse_begun
from messaging.throttle import CapReached


class NotScheduled(ConfirmRefused):
    """It is no message that waits for its time."""


def reschedule_message(message: Message, *, due_at: datetime, by: User, now: datetime) -> None:
    """The confirmed message, its release and its slots stand at `due_at` (a past one means now). Logged.

    Update or fail: either all of them have moved or nothing has changed. Twice: nothing changes but the log. Raises
    `TooSoon`, which names the next possible time, `NotReady`, `TooEarly`, `NotScheduled`, and
    `distribution.services.AlreadyGiving` once a worker has begun to give the release.
    """
    require_right(by, Right.SEND, creator_id=message.release.creator_id)
    with transaction.atomic():
        scheduled = Message.objects.select_for_update(no_key=True, of=("self",)).select_related("release")
        message = scheduled.get(pk=message.pk)
        if message.state != Message.State.CONFIRMED:
            raise NotScheduled(_("This message does not wait for its time: there is nothing to move."))
        due_at = max(due_at, now)
        if due_at - now > FARTHEST:
            raise NotReady(_("Choose a time within the next twelve months."))
        if message.kind == Message.Kind.REMINDER:
            refuse_begun(message)
            check_time(message, due_at=due_at)
        else:
            # Against the worker that begins to give it: one of the two finds the release changed.
            reschedule_release(message.release, publish_at=due_at)
        try:
            throttle.charge(message, audience_groups(message.release), at=due_at, now=now)
        except CapReached as reached:
            raise TooSoon(reached) from reached
        message.due_at, message.waits_because = due_at, ""
        message.save(update_fields=["due_at", "waits_because"])
        creator_id = message.release.creator_id
        record(by, "rescheduled message", f"message {message.pk}", creator_id=creator_id, now=now)
