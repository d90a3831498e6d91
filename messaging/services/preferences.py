"""What a contact wants to hear from a creator."""

from datetime import datetime

from django.db import transaction

from groups.models import Contact
from messaging.models import Delivery, Message, Preference


def set_preference(contact: Contact, choice: Preference.Choice, *, now: datetime) -> None:
    """`contact` gets `choice` of mail from their creator from now on; what they hold they keep.

    Asking for nothing also stops what is queued for them; asking for each release again counts from the next one.
    Twice: nothing changes.
    """
    with transaction.atomic():
        Preference.objects.update_or_create(
            creator_id=contact.creator_id, contact=contact, defaults={"choice": choice, "changed_at": now}
        )
        if choice == Preference.Choice.NOTHING:
            open_messages = Message.objects.filter(
                release__creator=contact.creator_id,
                state__in=[Message.State.CONFIRMED, Message.State.RUNNING],
            )
            Delivery.objects.filter(
                message__in=open_messages, contact=contact, state=Delivery.State.PLANNED
            ).update(state=Delivery.State.SKIPPED, reason=Delivery.Reason.NO_MAIL)


def preference_of(contact: Contact) -> Preference.Choice:
    """What `contact` wants now: each release, unless they said otherwise."""
    chosen = Preference.objects.filter(creator=contact.creator_id, contact=contact).first()
    return Preference.Choice(chosen.choice) if chosen else Preference.Choice.EACH
