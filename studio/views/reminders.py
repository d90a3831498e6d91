"""One more mail about a release, to those who have not redeemed it: written, checked, sent (M6)."""

from datetime import datetime
from uuid import uuid4

from csp.decorators import csp
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from distribution.models import Release
from groups.models import Creator
from groups.rights import Right
from messaging import tasks
from messaging.models import Message
from messaging.services import (
    AlreadyConfirmed,
    ConfirmRefused,
    DraftChanged,
    confirm_message,
    save_draft,
    start_reminder,
)
from messaging.services.reminders import earliest
from studio import queries, steering
from studio.drafts import other_draft
from studio.forms.moments import next_minute
from studio.forms.releases import TimingForm, seen_by
from studio.forms.sending import ReminderForm
from studio.scope import StudioRequest, of_creator, post_only, posted
from studio.views.checks import outlook_of
from studio.views.compose import MAIL_POLICY
from studio.views.pressing import press


@of_creator(Right.SEND)
def reminder(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Its words and its check; nobody is written to before it is sent."""
    release = _release_of(creator, pk)
    try:
        message = _draft_of(release, timezone.now())
    except ConfirmRefused as refused:
        messages.error(request, str(refused))
        return redirect("studio:release", creator.slug, pk)
    if message.state != Message.State.DRAFT:
        return redirect("studio:release", creator.slug, pk)
    form = ReminderForm(posted(request), initial={"subject": message.subject, "body": message.body})
    if form.is_valid() and _saved(request, message, form):
        messages.success(request, _("Saved."))
        return redirect("studio:reminder", creator.slug, pk)
    return _page(request, creator, message, form)


@of_creator(Right.SEND)
@post_only("studio:reminder", "pk")
def confirm(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Saves the words, then sends or schedules it; or says why not, and what is possible instead."""
    now, release = timezone.now(), _release_of(creator, pk)
    try:
        message = _draft_of(release, now)
    except ConfirmRefused as refused:
        messages.error(request, str(refused))
        return redirect("studio:release", creator.slug, pk)
    if message.state != Message.State.DRAFT:
        return redirect("studio:release", creator.slug, pk)
    form, timing = ReminderForm(request.POST), TimingForm(request.POST)
    if not (form.is_valid() and timing.is_valid()):
        return _page(request, creator, message, form, timing)
    due_at = timing.due_at or now

    def send() -> None:
        confirm_message(
            message,
            request_id=timing.request,
            due_at=due_at,
            by=request.user,
            now=now,
            revision=message.revision,
        )

    try:
        if not press(lambda: _saved(request, message, form), send):
            return _page(request, creator, message, form, timing)
    except ConfirmRefused as refused:
        return _page(request, creator, message, form, timing, refused=refused)
    tasks.wake_message(message.pk)
    messages.success(
        request,
        _("The reminder goes out.") if timing.due_at is None else _("The reminder is scheduled."),
    )
    return redirect("studio:release", creator.slug, pk)


@csp(MAIL_POLICY)  # type: ignore[untyped-decorator]
@of_creator(Right.READ)
def preview(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """The mail alone, for the frame on the page."""
    found = Message.objects.select_related("release__creator").filter(kind=Message.Kind.REMINDER)
    message = get_object_or_404(found, release=_release_of(creator, pk))
    sample = queries.sample(message, "", now=timezone.now())
    if sample.mail is None:
        return HttpResponse(sample.problem, content_type="text/plain; charset=utf-8")
    return HttpResponse(sample.mail.html)


def _release_of(creator: Creator, pk: int) -> Release:
    return get_object_or_404(creator.releases.select_related("creator"), pk=pk)


def _draft_of(release: Release, now: datetime) -> Message:
    message = start_reminder(release, now=now)
    message.release = release
    return message


def _saved(request: StudioRequest, message: Message, form: ReminderForm) -> bool:
    """Whether the words are saved; somebody else may have changed or confirmed them meanwhile."""
    subject, body = form.cleaned_data["subject"], form.cleaned_data["body"]
    seen, now = seen_by(request.POST), timezone.now()
    try:
        save_draft(message, subject=subject, body=body, seen=seen, by=request.user, now=now)
    except (AlreadyConfirmed, DraftChanged) as refused:
        form.add_error(None, str(refused))
        return False
    return True


def _page(
    request: StudioRequest,
    creator: Creator,
    message: Message,
    form: ReminderForm,
    timing: TimingForm | None = None,
    *,
    refused: ConfirmRefused | None = None,
) -> HttpResponse:
    now, release = timezone.now(), message.release
    drafts = Message.objects.filter(pk=message.pk, state=Message.State.DRAFT)
    if (refused or form.non_field_errors()) and not drafts.exists():
        # Another press or another tab was quicker.
        return redirect("studio:release", creator.slug, release.pk)
    timing = timing or TimingForm(initial={"request_id": uuid4(), "when": "now"})
    first = earliest(release)
    found = outlook_of(message, now=now, at=max(timing.due_at or now, first))
    offer = refused.next_at if refused and refused.next_at else max(found.verdict.next_at, first)
    changed = isinstance(refused, DraftChanged) or bool(form.non_field_errors())
    other = other_draft(drafts.select_related("release", "saved_by").get(), form.typed()) if changed else None
    context = {
        "creator": creator,
        "release": release,
        "message": message,
        "form": form,
        "other": other,
        "revision": request.POST.get("revision", "") if other else message.revision,
        "timing": timing,
        "refused": refused,
        "outlook": found,
        "parts": steering.of_reminding(found),
        "first": first if first > now else None,
        "offer": next_minute(offer) if offer > now else None,
        "sample": queries.sample(message, "", now=now),
        "paces": queries.paces(release, now=now),
    }
    return render(request, "studio/reminder.html", context)
