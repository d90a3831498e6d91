"""A send under way: paused, resumed, cancelled, moved to another time. And what was given: taken back."""

from collections.abc import Callable
from contextlib import suppress

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from distribution import tasks as giving
from distribution.models import Grant, Release
from distribution.services import (
    AlreadyGiving,
    NotGiven,
    choose_audience,
    choose_bundles,
    recall_release,
    revoke_grant,
    start_release,
)
from groups.models import Creator, Group
from groups.rights import Right
from library.models import Bundle
from messaging import tasks as telling
from messaging.models import Message
from messaging.services import (
    CannotSteer,
    ConfirmRefused,
    cancel_message,
    pause_message,
    progress,
    reschedule_message,
    resume_message,
    start_message,
)
from studio import queries, steering
from studio.forms.moments import next_minute
from studio.forms.sending import RecallForm, RescheduleForm
from studio.scope import StudioRequest, of_creator, post_only, posted, to_change

OPEN = [Message.State.CONFIRMED, Message.State.RUNNING, Message.State.PAUSED]


@of_creator(Right.SEND)
@post_only("studio:release", "pk")
def pause(request: StudioRequest, creator: Creator, pk: int, number: int) -> HttpResponse:
    """Nothing more goes out than what is in flight, until it is resumed."""
    done = _("Paused. What is being handed over now still goes; everything else waits for you.")
    return _steer(request, _message_of(creator, pk, number), pause_message, done)


@of_creator(Right.SEND)
@post_only("studio:release", "pk")
def resume(request: StudioRequest, creator: Creator, pk: int, number: int) -> HttpResponse:
    """It goes on where it stopped."""
    message = _message_of(creator, pk, number)
    answer = _steer(request, message, resume_message, _("It goes on where it stopped."))
    telling.wake_message(message.pk)
    return answer


@of_creator(Right.SEND)
def cancel(request: StudioRequest, creator: Creator, pk: int, number: int) -> HttpResponse:
    """Says how many were told and how many will not be, then stops it for good."""
    message = _message_of(creator, pk, number)
    if request.method == "POST":
        done = _("Cancelled. Nobody else is written to; the files stay given.")
        return _steer(request, message, cancel_message, done)
    if message.state not in OPEN:
        return redirect("studio:release", creator.slug, pk)
    sentences = steering.of_cancelling(progress(message, now=timezone.now()), granted=message.release.granted)
    context = {"creator": creator, "release": message.release, "message": message, "sentences": sentences}
    return render(request, "studio/cancel_message.html", context)


@of_creator(Right.SEND)
@transaction.atomic
def reschedule(request: StudioRequest, creator: Creator, pk: int, number: int) -> HttpResponse:
    """Another day and time for what is scheduled; refused, it says when it could go."""
    rows = to_change(_told_in(creator, pk), request)
    message = get_object_or_404(rows.select_related("release__creator"), pk=number)
    if message.state != Message.State.CONFIRMED or message.planned_at:
        return redirect("studio:release", creator.slug, pk)
    form, now = RescheduleForm(posted(request), initial={"at": message.due_at}), timezone.now()
    refused: ConfirmRefused | None = None
    if form.is_valid():
        try:
            reschedule_message(message, due_at=form.cleaned_data["at"], by=request.user, now=now)
        except AlreadyGiving as begun:
            messages.error(request, str(begun))
            return redirect("studio:release", creator.slug, pk)
        except ConfirmRefused as found:
            refused = found
        else:
            messages.success(request, _("It goes out at the new time."))
            return redirect("studio:release", creator.slug, pk)
    offer = next_minute(refused.next_at) if refused and refused.next_at else None
    context = {
        "creator": creator,
        "release": message.release,
        "message": message,
        "form": form,
        "refused": refused,
        "offer": offer,
    }
    return render(request, "studio/reschedule_message.html", context)


@of_creator(Right.SEND)
def recall(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Says what is lost, asks why and for a word, then takes the release back from everybody."""
    release = get_object_or_404(creator.releases.select_related("creator"), pk=pk)
    now, form = timezone.now(), RecallForm(posted(request))
    if release.recalled_at or release.state in {Release.State.DRAFT, Release.State.CONFIRMED}:
        return redirect("studio:release", creator.slug, pk)
    open_messages = list(
        release.messages.filter(state__in=OPEN).exclude(kind=Message.Kind.DIGEST).select_related("release")
    )
    if form.is_valid():
        try:
            recall_release(release, because=form.cleaned_data["because"], by=request.user, now=now)
        except NotGiven as refused:
            messages.error(request, str(refused))
            return redirect("studio:release", creator.slug, pk)
        for message in open_messages:
            # Its last mail may have gone since we looked.
            with suppress(CannotSteer):
                cancel_message(message, by=request.user, now=now)
        giving.wake_recall(pk)
        messages.success(request, _("Recalled. It is out of the libraries, and its links say so."))
        return redirect("studio:release", creator.slug, pk)
    left = sum(steering.untold(progress(message, now=now)) for message in open_messages)
    context = {
        "creator": creator,
        "release": release,
        "form": form,
        "sentences": steering.of_recalling(queries.reached(release), untold=left),
    }
    return render(request, "studio/recall_release.html", context)


@of_creator(Right.SEND)
@post_only("studio:release", "pk")
def give_again(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """A new draft with the bundles and the groups of a recalled release: the way back."""
    release = get_object_or_404(creator.releases, pk=pk, recalled_at__isnull=False)
    draft = start_release(creator, now=timezone.now())
    choose_bundles(draft, Bundle.objects.live().filter(release_items__release=release))
    choose_audience(draft, Group.objects.live().filter(release_rows__release=release), release.rule)
    Release.objects.filter(pk=draft.pk).update(title=release.title)
    before, message = start_message(release), start_message(draft)
    Message.objects.filter(pk=message.pk).update(subject=before.subject, body=before.body)
    messages.success(request, _("A new draft with the same bundles and groups. Look it over, then send it."))
    return redirect("studio:compose", creator.slug, draft.pk)


@of_creator(Right.SEND)
def revoke(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Asks once, then takes one person's files back."""
    grants = Grant.objects.select_related("release", "contact").filter(release__creator=creator)
    grant = get_object_or_404(grants, pk=pk)
    if request.method == "POST":
        person = {"person": grant.contact}
        if revoke_grant(grant, by=request.user, now=timezone.now()):
            messages.success(request, _("Taken back from %(person)s, and from nobody else.") % person)
        return redirect("studio:recipients", creator.slug, grant.release_id)
    return render(request, "studio/revoke_grant.html", {"creator": creator, "grant": grant})


def _message_of(creator: Creator, pk: int, number: int) -> Message:
    return get_object_or_404(_told_in(creator, pk).select_related("release__creator"), pk=number)


def _told_in(creator: Creator, pk: int) -> QuerySet[Message]:
    release = get_object_or_404(creator.releases, pk=pk)
    return Message.objects.filter(release=release).exclude(state=Message.State.DRAFT)


def _steer(request: StudioRequest, message: Message, act: Callable[..., None], done: str) -> HttpResponse:
    """Acts, or says why that cannot be any more; then back to the release."""
    try:
        act(message, by=request.user, now=timezone.now())
    except CannotSteer as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, done)
    return redirect("studio:release", message.release.creator.slug, message.release_id)
