"""Looking at a message before it goes: as somebody, or in one's own mailbox."""

from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.utils.translation import gettext as _

from accounts.addresses import address_key
from accounts.models import AuditEvent, User
from accounts.services import record
from groups.models import Contact
from messaging.mail import Mail, Mailing, group_names, sample_recipient
from messaging.models import Message
from messaging.providers import Kind, NotOpen, provider

TESTS_A_DAY = 20
SENT = "send test"


class TestRefused(Exception):
    """No test was sent; the sentence says why."""


def preview(message: Message, *, contact: Contact | None = None, now: datetime) -> Mail:
    """The mail as `contact` would get it, or somebody made up. Its links lead nowhere. Raises `WordsRefused`."""
    group = ""
    if contact is not None:
        group = group_names([contact.pk], message.release, now=now).get(contact.pk, "")
    if not group:
        row = message.release.audience_rows.select_related("group__parent").first()
        group = str(row.group) if row else _("your group")
    return Mailing(message).to(sample_recipient(contact, group=group, now=now))


def send_test(message: Message, *, to: User, address: str = "", now: datetime) -> str:
    """The mail is in the mailbox of `to`, at one of their own verified addresses; returns which. Charges no slot.

    Twice: two mails; after twenty in a day, none. Raises `TestRefused`, `WordsRefused`.
    """
    address = address_key(address or to.email)
    if not EmailAddress.objects.filter(user=to, email=address, verified=True).exists():
        raise TestRefused(_("Tests go to your own addresses only. Verify this one in your account first."))
    today = AuditEvent.objects.filter(actor=to, verb=SENT, at__gt=now - timedelta(days=1))
    if today.count() >= TESTS_A_DAY:
        raise TestRefused(
            _("You have sent %(number)d tests in a day. Try again tomorrow.") % {"number": TESTS_A_DAY}
        )
    shown = preview(message, now=now)
    record(to, SENT, f"message {message.pk}", creator_id=message.release.creator_id, now=now)
    way = provider()
    try:
        way.open()
        [answer] = way.offer([shown.mailing.to(shown.recipient._replace(address=address))])
    except NotOpen as closed:
        raise TestRefused(str(closed)) from closed
    finally:
        way.close()
    if answer.kind != Kind.ACCEPTED:
        raise TestRefused(_("The mail system did not take it: %(said)s") % {"said": answer.said})
    return address
