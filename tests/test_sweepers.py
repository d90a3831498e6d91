"""A state that is not final has a sweeper: with every ring lost, what waits in rows is brought on all the same."""

import io
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.utils import timezone

from accounts.models import Letter, User
from accounts.services import post_letter
from config.celery import app
from distribution.models import Release
from distribution.services import confirm_release, fan_out_grants, recall_release
from groups.imports.mapping import Mapping
from groups.models import Contact, Group, Import
from groups.services import check_import, choose_mapping, paste_list, request_apply
from library.models import Bundle, Upload
from library.services import uploads
from messaging import services, tasks
from messaging.models import Chunk, DryRun, Message
from messaging.services import counting
from rows.clock import db_now
from rows.lease import Lease, take_lease
from tests import factories

pytestmark = pytest.mark.django_db

# Nothing follows by itself from these: it is over, or a person's turn.
FINAL = {
    ("letter", "sent"),
    ("letter", "failed"),
    ("import", "done"),
    ("import", "refused"),
    ("upload", "done"),
    ("upload", "refused"),
    ("upload", "cancelled"),
    ("release", "published"),
    ("release", "recalled"),
    ("message", "done"),
    ("chunk", "done"),
    ("dryrun", "done"),
}
A_PERSONS_TURN = {
    ("import", "opened"),
    ("import", "checked"),
    ("release", "draft"),
    ("message", "draft"),
    ("message", "paused"),
}


class Waiting:
    """A creator with one member, a draft for her, and the moments things were asked for."""

    def __init__(self, owner: User, group: Group) -> None:
        self.owner, self.group = owner, group
        self.past = timezone.now() - timedelta(minutes=1)

    def release(self) -> Release:
        bundle = factories.BundleFactory.create(creator=self.group.creator)
        return factories.ReleaseFactory.create(
            creator=self.group.creator, bundles=[bundle], groups=[self.group]
        )

    def confirmed(self) -> Release:
        release = self.release()
        confirm_release(release, publish_at=self.past, by=self.owner, now=self.past)
        return release

    def message(self) -> Message:
        message = services.start_message(self.release())
        Message.objects.filter(pk=message.pk).update(subject="Here it is", body="Hello.")
        message.refresh_from_db()
        return message

    def confirmed_message(self) -> Message:
        message = self.message()
        return services.confirm_message(
            message,
            request_id=uuid4(),
            due_at=self.past,
            by=self.owner,
            now=self.past,
        )

    def running_message(self) -> Message:
        message = self.confirmed_message()
        fan_out_grants(message.release_id, now=self.past)
        services.plan_deliveries(message.pk, now=self.past)
        services.begin_sending(message.pk, now=self.past)
        message.refresh_from_db()
        assert message.state == Message.State.RUNNING
        return message

    def checking(self) -> Import:
        run = paste_list(self.group, "new@example.org", by=self.owner, now=self.past)
        choose_mapping(run, Mapping.from_json(run.mapping), now=self.past)
        return run

    def upload(self) -> Upload:
        bundle: Bundle = factories.BundleFactory.create(creator=self.group.creator, files=0, files__open=True)
        upload = uploads.open_upload(bundle, "a.txt", 5, by=self.owner, now=self.past)
        uploads.put_part(upload, 1, io.BytesIO(b"words"), 5, now=self.past)
        return upload


def a_letter(waiting: Waiting) -> Letter:
    post_letter("code", "a@b.example", subject="s", text="t", dedupe_key="k", now=waiting.past)
    return Letter.objects.get()


def an_import_being_applied(waiting: Waiting) -> Import:
    run = waiting.checking()
    assert check_import(run.pk, now=waiting.past)
    run.refresh_from_db()
    request_apply(run, consent=True, gone_at=None, typed="", by=waiting.owner, now=waiting.past)
    return run


def an_upload_to_check(waiting: Waiting) -> Upload:
    upload = waiting.upload()
    uploads.complete_upload(upload, now=waiting.past)
    return upload


def an_upload_nobody_goes_on_with(waiting: Waiting) -> Upload:
    upload = waiting.upload()
    Upload.objects.update(touched_at=timezone.now() - timedelta(hours=25))
    return upload


def a_release_a_worker_began(waiting: Waiting) -> Release:
    release = waiting.confirmed()
    Release.objects.update(state=Release.State.GRANTING, as_of=waiting.past)
    return release


def a_release_to_take_back(waiting: Waiting) -> Release:
    release = waiting.confirmed()
    fan_out_grants(release.pk, now=waiting.past)
    recall_release(release, because="It broke.", by=waiting.owner, now=waiting.past)
    release.refresh_from_db()
    return release


def a_cancelled_message(waiting: Waiting) -> Chunk:
    message = waiting.running_message()
    services.cancel_message(message, by=waiting.owner, now=waiting.past)
    return message.chunks.get()


def a_cancelled_message_that_holds_somebody(waiting: Waiting) -> Chunk:
    message = waiting.running_message()
    services.cancel_message(message, by=waiting.owner, now=waiting.past)
    message.deliveries.update(state="held")
    message.chunks.update(state=Chunk.State.DONE, tally={"held": 1})
    Message.objects.update(held=1)
    return message.chunks.get()


def a_chunk(waiting: Waiting) -> Chunk:
    return waiting.running_message().chunks.get()


def a_message_whose_last_chunk_is_done(waiting: Waiting) -> Message:
    message = waiting.running_message()
    message.deliveries.update(state="accepted")
    message.chunks.update(state=Chunk.State.DONE)
    return message


def a_large_dry_run(waiting: Waiting) -> DryRun:
    run = services.ask_dry_run(waiting.message(), now=waiting.past)
    assert run is not None
    return run


SWEPT: dict[tuple[str, str], list[Callable[[Waiting], Lease]]] = {
    ("letter", "waiting"): [a_letter],
    ("import", "checking"): [Waiting.checking],
    ("import", "applying"): [an_import_being_applied],
    ("upload", "open"): [an_upload_nobody_goes_on_with],
    ("upload", "verifying"): [an_upload_to_check],
    ("release", "confirmed"): [Waiting.confirmed],
    ("release", "granting"): [a_release_a_worker_began],
    ("release", "recalling"): [a_release_to_take_back],
    ("message", "confirmed"): [Waiting.confirmed_message],
    ("message", "running"): [a_message_whose_last_chunk_is_done],
    ("message", "cancelled"): [a_cancelled_message, a_cancelled_message_that_holds_somebody],
    ("chunk", "open"): [a_chunk],
    ("dryrun", "asked"): [a_large_dry_run],
}


def states_of(model: type[Lease]) -> list[str]:
    try:
        choices = model._meta.get_field("state").choices
    except FieldDoesNotExist:
        return ["asked", "done"]
    return [value for value, _label in choices or []]


def test_every_state_of_leased_work_is_final_a_persons_turn_or_swept() -> None:
    leased = [model for model in apps.get_models() if issubclass(model, Lease)]
    every = {(str(model._meta.model_name), state) for model in leased for state in states_of(model)}
    assert every == FINAL | A_PERSONS_TURN | SWEPT.keys()
    assert sum(map(len, (FINAL, A_PERSONS_TURN, SWEPT))) == len(every), "one of them in two places"


def look_of(row: Lease) -> dict[str, object]:
    """What a worker that takes a row up changes of it."""
    values = type(row)._default_manager.filter(pk=row.pk).values().first() or {}
    return {name: values.get(name) for name in ("state", "epoch", "done_at")}


@pytest.mark.parametrize(
    "build", [pytest.param(build, id="-".join(case)) for case, builds in SWEPT.items() for build in builds]
)
def test_it_is_taken_up_though_nobody_rang_and_its_worker_is_dead(
    build: Callable[[Waiting], Lease],
    owner: User,
    hobbyist: Group,
    contact: Contact,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(counting, "AT_ONCE", 0)
    # SQLite does not take this word inside the test's transaction.
    monkeypatch.setattr(tasks, "_keep_every_commit", lambda: None)
    row = build(Waiting(owner, hobbyist))
    row.refresh_from_db()
    # Somebody had it and did not come back.
    assert take_lease(row, seconds=60) is not None
    type(row)._default_manager.filter(pk=row.pk).update(lease_until=db_now() - timedelta(seconds=1))
    before = look_of(row)
    app.loader.import_default_modules()
    for name in app.conf.beat_schedule:
        app.tasks[name]()
    assert look_of(row) != before
