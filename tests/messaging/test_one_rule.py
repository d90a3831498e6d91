"""Opening a chunk, the chained commit and SQLite's way say whom a message may be written to: all three the same.

Where the commit refused somebody whom opening leaves planned, a worker would open the chunk again and again.
"""

from collections.abc import Callable
from datetime import datetime
from itertools import combinations

import pytest

from accounts.models import Suppression
from distribution.models import Grant
from groups.models import Contact, Group, Membership
from messaging import services
from messaging.models import Delivery, Message, Preference
from messaging.services.chain import link
from messaging.services.eligible import may_go, told_by
from tests.factories import ContactFactory, MembershipFactory

pytestmark = pytest.mark.django_db

CHANGES: dict[str, Callable[[Contact, datetime], object]] = {
    "suppressed": lambda one, now: Suppression.objects.create(
        address_key=one.address_key, reason="bounce", created_at=now
    ),
    "wants no mail": lambda one, now: Preference.objects.update_or_create(
        contact=one, creator=one.creator, defaults={"choice": Preference.Choice.NOTHING, "changed_at": now}
    ),
    "opted out in the list": lambda one, now: Contact.objects.filter(pk=one.pk).update(opted_out_at=now),
    "chose all": lambda one, now: Preference.objects.get_or_create(
        contact=one, creator=one.creator, defaults={"choice": Preference.Choice.EACH, "changed_at": now}
    ),
    "left": lambda one, now: Membership.objects.filter(contact=one).update(ended_at=now),
    "redeemed": lambda one, now: Grant.objects.filter(contact=one).update(redeemed_at=now),
    "taken back": lambda one, now: Grant.objects.filter(contact=one).update(revoked_at=now),
}
BOTH = [[], *([name] for name in CHANGES), *(list(pair) for pair in combinations(CHANGES, 2))]


@pytest.mark.parametrize("kind", ["announcement", "reminder"])
def test_all_three_leave_the_same_people(
    kind: str,
    draft: Message,
    hobbyist: Group,
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    for number, _changes in enumerate(BOTH):
        one = ContactFactory.create(creator=hobbyist.creator, address_key=f"c{number}@example.net")
        MembershipFactory.create(group=hobbyist, contact=one)
    message = start(confirm(draft))
    Message.objects.filter(pk=message.pk).update(kind=kind)
    people = list(Contact.objects.filter(address_key__startswith="c").order_by("pk"))
    for one, changes in zip(people, BOTH, strict=True):
        for name in changes:
            CHANGES[name](one, now)
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk
    left = set(Delivery.objects.filter(state="planned").values_list("pk", flat=True))
    assert 0 < len(left) < len(BOTH)
    # As if opening had looked at nobody.
    Delivery.objects.update(state="planned", reason="", attempts=0)
    told, every = told_by(chunk.message), Delivery.objects.select_related("contact")
    assert set(every.filter(may_go(told, now)).values_list("pk", flat=True)) == left
    addresses = {one.pk: one.contact.address_key for one in every}
    assert link(chunk, intend=addresses, told=told, seconds=60, now=now).offered == left
