"""Two tabs, or two people, on one draft: nothing is overwritten in silence, and what is sent is what its page showed."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from accounts.models import User
from distribution.models import Release
from groups.models import Creator, Group, Staff
from library.models import Bundle
from messaging.models import Message
from messaging.services import (
    DraftChanged,
    Parts,
    Seen,
    confirm_message,
    drafts,
    publish_draft,
    save_draft,
    start_message,
    start_reminder,
)
from messaging.services import confirm as confirm_service
from studio.views import compose
from tests import factories
from tests.messaging.test_races import all_at_once
from tests.studio import test_compose
from tests.studio.conftest import PAUSE, together, url
from tests.studio.test_compose import HTMX, filled

bundle, draft = test_compose.bundle, test_compose.draft
ClientOf = Callable[[User | None], Client]


@pytest.fixture
def helper(creator: Creator, client_of: ClientOf) -> Client:
    """Ben, who prepares releases with Ana."""
    person = factories.UserFactory.create(name="Ben Okafor")
    Staff.objects.create(creator=creator, user=person, role="helper")
    return client_of(person)


def chosen(release: Release) -> list[str]:
    return sorted(row.group.name for row in release.audience_rows.select_related("group"))


def words_of(release: Release) -> tuple[str, str]:
    message = Message.objects.get(release=release)
    return message.subject, message.body


@pytest.mark.parametrize("button", ["compose", "confirm_release", "publish_release", "send_test"])
def test_the_second_to_save_is_told_who_changed_what_and_loses_nothing(
    studio: Client,
    helper: Client,
    draft: Release,
    bundle: Bundle,
    patrons: Group,
    hobbyist: Group,
    button: str,
) -> None:
    mine = filled(bundle, patrons, body="Mine, and long")
    helper.post(url("compose", draft.pk), filled(bundle, hobbyist, body="Of Ben"), headers=HTMX)
    page = studio.post(url(button, draft.pk), mine).content.decode()
    assert "Ben Okafor changed this draft in another window" in page
    assert "Of Ben" in page  # what is saved
    assert "Mine, and long</textarea>" in page  # what was typed
    assert "Who gets it, as it is saved" in page
    assert "What they get, as it is saved" not in page
    draft.refresh_from_db()
    assert (draft.state, chosen(draft), words_of(draft)) == ("draft", ["Hobbyist"], ("November", "Of Ben"))


def test_whoever_came_second_may_take_over(
    studio: Client, helper: Client, draft: Release, bundle: Bundle, patrons: Group, hobbyist: Group
) -> None:
    mine = filled(bundle, patrons, body="Mine")
    helper.post(url("compose", draft.pk), filled(bundle, hobbyist, body="Of Ben"))
    page = studio.post(url("compose", draft.pk), mine).content.decode()
    assert 'name="take_over" value="1"' in page
    studio.post(url("compose", draft.pk), {**mine, "take_over": "1"})
    assert (chosen(draft), words_of(draft)) == (["Patrons"], ("November", "Mine"))


def test_an_autosave_tells_of_it_beside_the_form(
    studio: Client, helper: Client, draft: Release, bundle: Bundle, patrons: Group, hobbyist: Group
) -> None:
    mine = filled(bundle, patrons, body="Mine")
    helper.post(url("compose", draft.pk), filled(bundle, hobbyist, body="Of Ben"))
    part = studio.post(url("compose", draft.pk), mine, headers=HTMX).content.decode()
    assert "Ben Okafor changed this draft" in part
    assert "Not saved" in part
    # The page stays behind: the next keystroke does not save over Ben's words either.
    assert 'id="revision" name="revision" value="0"' in part
    assert words_of(draft) == ("November", "Of Ben")


def test_a_page_follows_itself_though_no_answer_came_back_yet(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group
) -> None:
    page = filled(bundle, patrons, body="Hel")
    studio.post(url("compose", draft.pk), page, headers=HTMX)
    studio.post(url("compose", draft.pk), {**page, "body": "Hello"}, headers=HTMX)
    assert words_of(draft) == ("November", "Hello")


@pytest.mark.parametrize("revision", ["", "x", "-1", "9" * 40, "7"])
def test_a_form_that_saw_no_state_of_the_draft_saves_nothing(
    studio: Client, draft: Release, bundle: Bundle, patrons: Group, revision: str
) -> None:
    answer = studio.post(url("compose", draft.pk), filled(bundle, patrons, revision=revision))
    assert "This draft was changed in another window" in answer.content.decode()
    assert chosen(draft) == []


def test_a_reminder_is_not_overwritten_in_silence_either(
    studio: Client, creator: Creator, client_of: ClientOf, patrons: Group
) -> None:
    release = factories.ReleaseFactory.create(creator=creator, groups=[patrons])
    Release.objects.filter(pk=release.pk).update(
        state="published", publish_at=release.created_at, as_of=release.created_at
    )
    start_reminder(release, now=release.created_at)
    other = factories.UserFactory.create(name="Ben Okafor")
    Staff.objects.create(creator=creator, user=other, role="manager")
    words = {"subject": "S", "when": "now", "revision": 0}
    client_of(other).post(url("reminder", release.pk), {**words, "body": "Of Ben", "request_id": uuid4()})
    for button in ("reminder", "confirm_reminder"):
        sent = {**words, "body": "Mine", "request_id": uuid4()}
        page = studio.post(url(button, release.pk), sent).content.decode()
        assert "Ben Okafor changed this draft" in page
        assert "Of Ben" in page
        assert "Mine</textarea>" in page
    assert Message.objects.get(release=release, kind="reminder").body == "Of Ben"


@pytest.mark.parametrize("way", ["confirm", "publish"])
def test_what_was_saved_between_saving_and_confirming_is_not_sent(
    draft: Release, bundle: Bundle, owner: User, patrons: Group, hobbyist: Group, now: datetime, way: str
) -> None:
    for group in (patrons, hobbyist):
        factories.MembershipFactory.create(group=group)
    message = start_message(draft)
    parts = Parts(title="November", bundles=[bundle], groups=[hobbyist], rule="at_publishing")
    save = partial(save_draft, message, subject="S", by=owner, now=now)
    mine = save(body="Mine", parts=parts, seen=Seen(revision=0, page=None))
    assert save(body="Mine", parts=parts, seen=Seen(revision=0, page=None)) == mine  # a second press
    save(body="Mine", parts=replace(parts, groups=[patrons]), seen=Seen(revision=mine, page=None))
    ways = {
        "confirm": partial(confirm_message, message, request_id=uuid4(), due_at=now),
        "publish": partial(publish_draft, message, publish_at=now),
    }
    with pytest.raises(DraftChanged):
        ways[way](by=owner, now=now, revision=mine)
    assert test_compose.state_of(draft) == ("draft", "draft")


@pytest.mark.parametrize("button", ["confirm_release", "publish_release"])
def test_the_pages_own_autosave_that_arrives_late_holds_nothing_up_and_is_not_sent(
    draft: Release,
    bundle: Bundle,
    client_of: ClientOf,
    owner: User,
    hobbyist: Group,
    button: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    factories.MembershipFactory.create(group=hobbyist)
    browser, page = client_of(owner), str(uuid4())
    form = {**filled(bundle, hobbyist, body="All of it"), "request_id": page, "revision": 0}
    late = [{**form, "body": "All of"}]
    saved = compose._saved

    def overtaken(*args: Any) -> bool:
        done = saved(*args)
        if late:
            browser.post(url("compose", draft.pk), late.pop(), headers=HTMX)
        return done

    monkeypatch.setattr(compose, "_saved", overtaken)
    browser.post(url(button, draft.pk), form)
    draft.refresh_from_db()
    assert draft.state == Release.State.CONFIRMED
    assert start_message(draft).body == "All of it"


@pytest.mark.parametrize("button", ["confirm_release", "publish_release"])
def test_nobody_is_sent_what_another_tab_saved_between_saving_and_sending(
    draft: Release,
    bundle: Bundle,
    client_of: ClientOf,
    owner: User,
    helper: Client,
    hobbyist: Group,
    patrons: Group,
    button: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for group in (hobbyist, patrons):
        factories.MembershipFactory.create(group=group)
    others = [{**filled(bundle, patrons, body="Of Ben"), "request_id": str(uuid4()), "revision": 1}]
    saved = compose._saved

    def overtaken(*args: Any) -> bool:
        done = saved(*args)
        if others:
            helper.post(url("compose", draft.pk), others.pop(), headers=HTMX)
        return done

    monkeypatch.setattr(compose, "_saved", overtaken)
    mine = {**filled(bundle, hobbyist, body="Mine"), "request_id": str(uuid4()), "revision": 0}
    page = client_of(owner).post(url(button, draft.pk), mine).content.decode()
    assert "Ben Okafor changed this draft" in page
    assert "Mine</textarea>" in page
    draft.refresh_from_db()
    assert (draft.state, chosen(draft), words_of(draft)) == ("draft", ["Patrons"], ("November", "Of Ben"))


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_who_save_at_once_one_is_told(
    client_of: ClientOf, owner: User, patrons: Group, hobbyist: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = factories.BundleFactory.create(creator=patrons.creator)
    release = factories.ReleaseFactory.create(creator=patrons.creator)
    monkeypatch.setattr(Seen, "is_the_last", together(Seen.is_the_last))
    forms = {group.name: filled(bundle, group, body=group.name) for group in (patrons, hobbyist)}
    address = url("compose", release.pk)
    saves = [partial(client_of(owner).post, address, form, headers=HTMX) for form in forms.values()]
    told = ["Not saved" in answer.content.decode() for answer in all_at_once(saves)]
    assert sorted(told) == [False, True]
    kept = [name for name, refused in zip(forms, told, strict=True) if not refused]
    assert (chosen(release), words_of(release)) == (kept, ("November", kept[0]))


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("button", "looking"),
    [("confirm_release", confirm_service), ("publish_release", drafts)],
    ids=["confirming", "publishing"],
)
def test_nobody_is_sent_what_another_tab_saves_while_it_is_sent(
    client_of: ClientOf,
    owner: User,
    patrons: Group,
    hobbyist: Group,
    button: str,
    looking: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for group in (patrons, hobbyist):
        factories.MembershipFactory.create(group=group)
    bundle = factories.BundleFactory.create(creator=patrons.creator)
    release = factories.ReleaseFactory.create(creator=patrons.creator)
    looked, saved = threading.Event(), threading.Event()
    look = drafts.refuse_changed

    def slowly(message: Message, revision: int | None) -> None:
        look(message, revision)
        looked.set()
        saved.wait(PAUSE)

    def save() -> None:
        assert looked.wait(30)
        theirs = {**filled(bundle, patrons, body="Theirs"), "revision": 1}
        client_of(owner).post(url("compose", release.pk), theirs, headers=HTMX)
        saved.set()

    monkeypatch.setattr(looking, "refuse_changed", slowly)
    mine = filled(bundle, hobbyist, body="Mine")
    all_at_once([partial(client_of(owner).post, url(button, release.pk), mine), save])
    assert looked.is_set()
    release.refresh_from_db()
    assert (release.state, chosen(release), words_of(release)[1]) == ("confirmed", ["Hobbyist"], "Mine")
