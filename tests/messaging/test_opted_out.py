"""Whom a list of theirs says to want no mail is given the files and not written to, whenever it is said."""

from collections.abc import Callable
from datetime import datetime

import pytest
from django.core import mail

from groups.models import Contact, Creator
from messaging import services
from messaging.models import Delivery, Message, Preference
from messaging.services.chain import link
from messaging.services.eligible import may_go, told_by
from messaging.services.preferences import preference_of, set_preference

pytestmark = pytest.mark.django_db


@pytest.fixture
def opt_out(now: datetime) -> Callable[[Contact], None]:
    return lambda contact: Contact.objects.filter(pk=contact.pk).update(opted_out_at=now) and None


def of(contact: Contact) -> Delivery:
    return Delivery.objects.get(contact=contact)


def test_who_is_marked_before_planning_is_given_the_files_and_not_mailed(
    draft: Message,
    people: list[Contact],
    opt_out: Callable[[Contact], None],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
    now: datetime,
) -> None:
    opt_out(people[0])
    opt_out(people[1])
    # She asked for mail here: that counts.
    set_preference(people[1], Preference.Choice.EACH, now=now)
    start(confirm(draft))
    assert (of(people[0]).state, of(people[0]).reason) == ("skipped", "no_mail")
    work()
    written_to = {sent.to[0] for sent in mail.outbox}
    assert written_to == {person.address_key for person in people[1:]}
    assert people[0].grants.count() == 1


def test_who_is_marked_after_planning_is_out_when_the_chunk_is_opened(
    draft: Message,
    people: list[Contact],
    opt_out: Callable[[Contact], None],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
) -> None:
    start(confirm(draft))
    opt_out(people[2])
    work()
    assert (of(people[2]).state, of(people[2]).reason) == ("skipped", "no_mail")
    assert len(mail.outbox) == 4


def test_who_is_marked_while_the_chunk_is_open_is_not_offered(
    draft: Message,
    people: list[Contact],
    opt_out: Callable[[Contact], None],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    start(confirm(draft))
    chunk = services.open_chunk(owner="x", now=now)
    assert chunk is not None
    opt_out(people[2])
    opt_out(people[3])
    set_preference(people[3], Preference.Choice.EACH, now=now)
    intend = {of(person).pk: person.address_key for person in people}
    told = told_by(chunk.message)
    willing = Delivery.objects.filter(may_go(told, now)).values_list("contact", flat=True)
    assert set(willing) == {person.pk for person in people if person != people[2]}
    answer = link(chunk, intend=intend, told=told, seconds=60, now=now)
    assert answer.offered == {pk for pk in intend if pk != of(people[2]).pk}


def test_who_is_marked_while_held_for_the_digest_gets_none(
    draft: Message,
    people: list[Contact],
    creator: Creator,
    opt_out: Callable[[Contact], None],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    now: datetime,
) -> None:
    message = start(confirm(draft))
    Delivery.objects.filter(contact=people[0]).update(state="held", reason="cap")
    opt_out(people[0])
    services.digests._drop_the_unwilling(creator, [message], now)
    assert (of(people[0]).state, of(people[0]).reason) == ("skipped", "no_mail")


def test_what_she_says_herself_is_what_she_sees(
    people: list[Contact], opt_out: Callable[[Contact], None], now: datetime
) -> None:
    opt_out(people[0])
    person = Contact.objects.get(pk=people[0].pk)
    assert preference_of(person) == Preference.Choice.NOTHING
    set_preference(person, Preference.Choice.WEEKLY, now=now)
    assert preference_of(person) == Preference.Choice.WEEKLY
