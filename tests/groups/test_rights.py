"""Services that give, tell, take back or change whom mail goes to ask whose it is, whatever door led to them (P2)."""

from collections.abc import Callable
from itertools import chain
from uuid import uuid4

import pytest
from django.apps import apps

from accounts.models import User
from distribution import services as giving
from distribution.models import Grant, Release
from groups import services as groups
from groups.models import Contact, Creator, Group, Import, Staff
from groups.rights import Right
from groups.services.staff import NotYours, require_right
from library.models import Bundle
from library.services import open_upload
from messaging import services as telling
from messaging import throttle
from messaging.models import Message
from tests import factories
from tests.test_authorization_matrix import world

pytestmark = pytest.mark.django_db
__all__ = ["world"]


def everything() -> dict[str, list[tuple[object, ...]]]:
    """All there is, but for what any request writes."""
    models = chain.from_iterable(config.get_models() for config in apps.get_app_configs())
    return {
        model.__name__: list(model._default_manager.order_by("pk").values_list())
        for model in models
        if model.__name__ not in {"Session", "User"}
    }


@pytest.fixture
def acts(
    creator: Creator, hobbyist: Group, contact: Contact, owner: User, world: dict[str, str | int]
) -> dict[str, Callable[[User], object]]:
    """What a service gives, tells, takes or changes, by whoever asks for it."""
    now = factories.LONG_AGO
    release = Release.objects.get(pk=world["release"])
    draft = Release.objects.get(pk=world["draft"])
    message = Message.objects.get(pk=world["message"])
    bundle = Bundle.objects.get(pk=world["bundle"])
    run = Import.objects.get(pk=world["import"])
    return {
        "change_address": lambda by: groups.change_address(contact, "x@example.org", by=by, now=now),
        "paste_list": lambda by: groups.paste_list(hobbyist, "x@example.org", by=by, now=now),
        "request_apply": lambda by: groups.request_apply(
            run, consent=True, gone_at=None, typed="", by=by, now=now
        ),
        "open_upload": lambda by: open_upload(bundle, "x.txt", 5, by=by, now=now),
        "recall_release": lambda by: giving.recall_release(release, because="x", by=by, now=now),
        "revoke_grant": lambda by: giving.revoke_grant(Grant.objects.get(pk=world["grant"]), by=by, now=now),
        "confirm_release": lambda by: giving.confirm_release(draft, publish_at=now, by=by, now=now),
        "take_newest": lambda by: giving.take_newest(release, by=by, now=now),
        "pause_message": lambda by: telling.pause_message(message, by=by, now=now),
        "resume_message": lambda by: telling.resume_message(message, by=by, now=now),
        "cancel_message": lambda by: telling.cancel_message(message, by=by, now=now),
        "resend": lambda by: telling.resend(message.deliveries.all(), message=message, by=by, now=now),
        "reschedule_message": lambda by: telling.reschedule_message(message, due_at=now, by=by, now=now),
        "confirm_message": lambda by: telling.confirm_message(
            telling.start_message(draft),
            request_id=uuid4(),
            due_at=now,
            by=by,
            now=now,
        ),
        "set_chosen": lambda by: throttle.set_chosen(hobbyist, week=1, month=1, by=by, now=now),
    }


def test_services_that_give_or_take_ask_too(
    acts: dict[str, Callable[[User], object]], creator: Creator, stranger: User
) -> None:
    viewer = factories.UserFactory.create()
    Staff.objects.create(creator=creator, user=viewer, role=Staff.Role.VIEWER)
    before = everything()
    for name, act in acts.items():
        for person in (viewer, stranger):
            with pytest.raises(NotYours):
                act(person)
            assert everything() == before, name


@pytest.mark.parametrize("right", list(Right))
def test_nobody_and_the_installations_people_may_all(creator: Creator, stranger: User, right: Right) -> None:
    require_right(None, right, creator_id=creator.pk)
    stranger.is_staff = True
    require_right(stranger, right, creator_id=creator.pk)
