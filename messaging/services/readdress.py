"""A mail that did not arrive goes to the person's address of now."""

from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from accounts.models import User
from messaging.models import Delivery, Message
from messaging.services.following import free_addresses
from messaging.services.steer import RESENDABLE, CannotSteer, resend


def readdress(delivery: Delivery, *, by: User, now: datetime) -> bool:
    """`delivery` is offered once more, to the present address of its contact, whose cap is charged for it.

    Returns whether this call did that; twice, or when it goes to that address already: False, nothing changes.
    Raises `CannotSteer`, also when the same message went to that address under another name.
    """
    lost = Delivery.objects.select_related("contact", "message__release").filter(state__in=RESENDABLE)
    with transaction.atomic():
        # First, as whoever pauses or resends takes it first.
        list(Message.objects.select_for_update(no_key=True).filter(pk=delivery.message_id).values_list("pk"))
        found = lost.filter(pk=delivery.pk).first()
        if found is None or found.address_key == found.contact.address_key:
            return False
        address, message = found.contact.address_key, found.message
        free_addresses(message.pk, [address], creator_id=message.release.creator_id)
        try:
            with transaction.atomic():
                Delivery.objects.filter(pk=found.pk, state__in=RESENDABLE).update(
                    address_key=address, charged_at=None
                )
        except IntegrityError:
            raise CannotSteer(_("This message went to that address already.")) from None
        return bool(resend(Delivery.objects.filter(pk=found.pk), message=message, by=by, now=now))
