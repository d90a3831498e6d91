"""Two windows on any form over saved values: nothing that somebody saved is overwritten in silence."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest
from django.db.models import Model
from django.test import Client

from accounts.models import User
from groups.models import Creator, Group
from library.models import Bundle
from messaging.models import Cadence, Message
from messaging.throttle import set_chosen
from studio.forms.opened import Opened
from tests.messaging.test_races import all_at_once
from tests.studio import test_release
from tests.studio.conftest import clock, fill_in, hidden_in, together, url
from tests.studio.test_release import NOW, confirm

people, message = test_release.people, test_release.message

ClientOf = Callable[[User | None], Client]


class Case(NamedTuple):
    """A form: its address, the row it is over, what each of two people types into it, and what stays as it is."""

    address: str
    row: Model
    theirs: dict[str, Any]
    mine: dict[str, Any]
    rest: dict[str, Any]
    # Of their values as the page says them.
    said: str


@pytest.fixture(params=["a bundle", "settings", "a name", "a pace", "a time"])
def case(
    request: pytest.FixtureRequest, creator: Creator, patrons: Group, message: Message, owner: User
) -> Case:
    bundle = Bundle.objects.get()
    if request.param == "a bundle":
        theirs, mine = {"description": "Of Ben"}, {"description": "Mine"}
        rest = {"title": bundle.title, "licence": bundle.licence}
        return Case(url("edit_bundle", bundle.pk), bundle, theirs, mine, rest, "Of Ben")
    if request.param == "settings":
        theirs, mine = {"reply_to": "ben@forge.example"}, {"reply_to": "me@forge.example"}
        rest = {
            "name": creator.name,
            "time_zone": creator.time_zone,
            "postal_address": creator.postal_address,
        }
        return Case(url("settings"), creator, theirs, mine, rest, "ben@forge.example")
    if request.param == "a name":
        theirs, mine = {"name": "Of Ben"}, {"name": "Mine"}
        return Case(url("rename_group", patrons.pk), patrons, theirs, mine, {}, "Of Ben")
    if request.param == "a pace":
        set_chosen(patrons, week=2, month=6, by=owner, now=NOW)
        cadence = Cadence.objects.get(group=patrons)
        return Case(url("set_pace", patrons.pk), cadence, {"month": 3}, {"month": 2}, {"week": 2}, "“3”")
    confirm(message, owner, days=20)
    address = url("reschedule_message", message.release_id, message.pk)
    return Case(
        address,
        message,
        {"at": clock(NOW + timedelta(days=21))},
        {"at": clock(NOW + timedelta(days=22))},
        {},
        clock(NOW + timedelta(days=21)),
    )


def state(row: Model) -> dict[str, Any]:
    return type(row)._default_manager.filter(pk=row.pk).values().get()


def test_whoever_comes_second_is_told_and_may_save_with_the_next_press(studio: Client, case: Case) -> None:
    mine = {**hidden_in(studio.get(case.address).content.decode()), **case.rest, **case.mine}
    assert fill_in(studio, case.address, {**case.rest, **case.theirs}).status_code == 302
    saved = state(case.row)
    page = studio.post(case.address, mine).content.decode()
    assert "changed this in another window" in page
    assert case.said in page
    assert all(str(value) in page for value in case.mine.values())
    assert state(case.row) == saved
    assert studio.post(case.address, {**mine, **hidden_in(page)}).status_code == 302
    assert state(case.row) != saved


@pytest.mark.parametrize("nonsense", ["", "[]", "{", "[" * 5_000, '{"description": 7}', "\0"])
def test_a_form_that_saw_nothing_of_what_is_saved_saves_nothing(
    studio: Client, case: Case, nonsense: str
) -> None:
    before = state(case.row)
    page = studio.post(case.address, {**case.rest, **case.mine, "opened": nonsense})
    assert page.status_code == 200
    assert state(case.row) == before


def test_the_same_twice_is_no_conflict(studio: Client, case: Case) -> None:
    mine = {**hidden_in(studio.get(case.address).content.decode()), **case.rest, **case.mine}
    assert studio.post(case.address, mine).status_code == 302
    saved = state(case.row)
    assert studio.post(case.address, mine).status_code == 302
    assert state(case.row) == saved


def test_the_same_twice_is_no_conflict_where_saving_spells_it_anew(studio: Client, creator: Creator) -> None:
    mine = {
        **hidden_in(studio.get(url("settings")).content.decode()),
        "name": "Ana \u200b Casts",
        "time_zone": creator.time_zone,
        "reply_to": "Ana@Forge.Example",
        "postal_address": creator.postal_address,
    }
    assert studio.post(url("settings"), mine).status_code == 302
    assert studio.post(url("settings"), mine).status_code == 302


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_who_save_at_once_one_is_told(
    studio: Client, client_of: ClientOf, owner: User, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = hidden_in(studio.get(case.address).content.decode())
    monkeypatch.setattr(Opened, "clean", together(Opened.clean))
    saves = [
        partial(client_of(owner).post, case.address, {**opened, **case.rest, **typed})
        for typed in (case.theirs, case.mine)
    ]
    assert sorted(answer.status_code for answer in all_at_once(saves)) == [200, 302]


def test_two_who_change_different_things_both_keep_them(studio: Client, message: Message) -> None:
    bundle = Bundle.objects.get()
    address = url("edit_bundle", bundle.pk)
    shown = {**hidden_in(studio.get(address).content.decode()), "title": bundle.title}
    fill_in(studio, address, {"title": bundle.title, "description": "Of Ben", "licence": "Print it"})
    studio.post(address, {**shown, "description": "", "licence": "Print it, and sell what you print"})
    bundle.refresh_from_db()
    assert bundle.description == "Of Ben"
    # The licence both had changed: Ben's stands until somebody decides.
    assert bundle.licence == "Print it"
