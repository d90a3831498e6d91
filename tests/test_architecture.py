"""The house keeps its plan: keys point downwards, and nothing reaches past its room."""

import pytest
from django.apps import apps
from django.db import connection, transaction

from groups.models import Creator
from messaging.models import Message
from tests.locks import LocksTooMuch, locks_too_much

ROOMS = ["rows", "accounts", "groups", "library", "distribution", "messaging", "studio", "config"]


def test_foreign_keys_point_only_downwards() -> None:
    upward = [
        f"{model.__name__}.{field.name}"
        for room in ROOMS
        for model in apps.get_app_config(room).get_models()
        for field in model._meta.get_fields()
        if field.is_relation and not field.auto_created and field.related_model
        for target in [field.related_model._meta.app_label]
        if target in ROOMS and ROOMS.index(target) > ROOMS.index(room)
    ]
    assert upward == []


def test_the_studio_owns_no_table() -> None:
    assert list(apps.get_app_config("studio").get_models()) == []


def test_every_model_says_what_one_row_is() -> None:
    silent = [
        model.__name__
        for room in ROOMS
        for model in apps.get_app_config(room).get_models()
        if not model.__doc__ or model.__doc__.startswith(f"{model.__name__}(")
    ]
    assert silent == []


def test_a_lock_over_joined_tables_names_the_one_it_means() -> None:
    """Every statement of every test on PostgreSQL is judged by this (tests/locks.py)."""
    wide = "SELECT a.id FROM a INNER JOIN b ON (a.b_id = b.id) WHERE (b.x = 1) FOR NO KEY UPDATE"
    assert locks_too_much(wide)
    assert locks_too_much(f"{wide} SKIP LOCKED")
    assert not locks_too_much(f'{wide} OF "a" SKIP LOCKED')
    assert not locks_too_much(
        "SELECT id FROM a WHERE id IN (SELECT b.a_id FROM b JOIN c ON b.id = c.id) FOR UPDATE"
    )
    assert not locks_too_much("SELECT a.id FROM a INNER JOIN b ON (a.b_id = b.id)")


@pytest.mark.postgres
@pytest.mark.django_db
def test_the_tests_do_look_at_every_lock() -> None:
    with pytest.raises(LocksTooMuch), transaction.atomic():
        Creator.objects.select_for_update().filter(releases__messages=1).first()
    with transaction.atomic():
        Message.objects.select_for_update(of=("self",)).filter(release__creator=1).first()
    assert connection.execute_wrappers
