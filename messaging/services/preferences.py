"""What a contact wants to hear from a creator."""

from datetime import datetime

from django.db import transaction
from django.db.models import Q

from groups.models import Contact
from messaging.models import Delivery, Message, Preference
from messaging.services.tallies import recount

State, Reason = Delivery.State, Delivery.Reason


def set_preference(contact: Contact, choice: Preference.Choice, *, now: datetime) -> None:
    """`contact` gets `choice` of mail from their creator from now on; what they hold they keep.

    What is queued for them follows at once: asking for one mail a week moves it to the digest, asking for nothing
    stops it. Asking for each release again counts from the next one; what waits for the digest stays there. Twice:
    nothing changes.
    """
    theirs = Delivery.objects.filter(contact=contact, message__in=_open_messages(contact))
    with transaction.atomic():
        Preference.objects.update_or_create(
            creator_id=contact.creator_id, contact=contact, defaults={"choice": choice, "changed_at": now}
        )
        if choice == Preference.Choice.EACH:
            return
        if choice == Preference.Choice.NOTHING:
            changing = theirs.filter(state__in=[State.PLANNED, State.HELD])
            became = {"state": State.SKIPPED, "reason": Reason.NO_MAIL}
        else:
            # A digest on its way is what they asked for.
            changing = theirs.filter(state=State.PLANNED).exclude(message__kind=Message.Kind.DIGEST)
            became = {"state": State.HELD, "reason": Reason.WEEKLY}
        found = dict(changing.values_list("pk", "message_id"))
        changing.filter(pk__in=found).update(**became)
    # After the commit: a chunk that is just being opened waits for these rows, and we must not wait for it.
    for message_id in set(found.values()):
        recount(message_id, [contact.pk])


def preference_of(contact: Contact) -> Preference.Choice:
    """What `contact` wants now: what they said, else what a list said of them, else each release."""
    chosen = Preference.objects.filter(creator=contact.creator_id, contact=contact).first()
    if chosen:
        return Preference.Choice(chosen.choice)
    return Preference.Choice.NOTHING if contact.opted_out_at else Preference.Choice.EACH


def _open_messages(contact: Contact) -> list[int]:
    """The messages of their creator that have mails to go, now or in a digest."""
    state = Message.State
    under_way = Q(state__in=[state.CONFIRMED, state.RUNNING, state.PAUSED]) | Q(held__gt=0)
    of_creator = Message.objects.filter(under_way, release__creator=contact.creator_id)
    return list(of_creator.values_list("pk", flat=True))
