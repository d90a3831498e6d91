"""A new release on one page of steps. The draft is saved all the time; what it would come to is said beside it."""

from uuid import uuid4

from csp.decorators import csp
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _

from distribution import tasks
from distribution.models import Release
from distribution.services import (
    AlreadyConfirmed,
    ReleaseRefused,
    choose_bundles,
    start_release,
)
from groups.models import Creator
from groups.rights import Right
from library.services import StillUploading
from messaging.models import Message
from messaging.services import AlreadyConfirmed as MessageConfirmed
from messaging.services import (
    ConfirmRefused,
    DraftChanged,
    TestRefused,
    confirm_message,
    publish_draft,
    send_test,
    start_message,
)
from messaging.services.discard import discard_draft
from messaging.words import PLACEHOLDERS, WordsRefused
from studio import queries, words
from studio.drafts import OtherDraft, other_draft
from studio.forms.moments import next_minute
from studio.forms.releases import ComposeForm, TimingForm
from studio.scope import StudioRequest, of_creator, post_only, posted, row_number
from studio.views.checks import outlook_of
from studio.views.pressing import press

PEOPLE_A_PAGE = 100
# The mail is shown as its reader's program would: styles of its own, and nothing that could run or be fetched.
MAIL_POLICY = {
    "default-src": ["'none'"],
    "style-src": ["'unsafe-inline'"],
    "frame-ancestors": ["'self'"],
    "sandbox": True,
}


@of_creator(Right.PREPARE)
@post_only("studio:releases")
def start_draft(request: StudioRequest, creator: Creator) -> HttpResponse:
    """A new draft, with the bundle in it that was just looked at."""
    release = start_release(creator, now=timezone.now())
    number = row_number(request.POST.get("bundle", ""))
    choose_bundles(release, creator.bundles.live().filter(pk=number))
    return redirect("studio:compose", creator.slug, release.pk)


@of_creator(Right.READ, to_post=Right.PREPARE)
def compose(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """The draft, saved whenever it is sent; htmx gets only what changed beside the form."""
    message = _message_of(creator, pk)
    if message.release.state != Release.State.DRAFT:
        return redirect("studio:release", creator.slug, pk)
    form = ComposeForm(posted(request), message=message)
    if form.is_valid() and _saved(request, form) and not request.htmx:
        messages.success(request, _("Saved."))
        return redirect("studio:compose", creator.slug, pk)
    return _page(request, creator, message, form, TimingForm(request.POST) if form.is_bound else None)


@of_creator(Right.SEND)
@post_only("studio:compose", "pk")
def confirm(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Saves the draft, then sends or schedules it; or says why not, and what is possible instead."""
    message = _message_of(creator, pk)
    form, timing = ComposeForm(request.POST, message=message), TimingForm(request.POST)
    if message.release.state != Release.State.DRAFT:
        return redirect("studio:release", creator.slug, pk)
    if not (form.is_valid() and timing.is_valid()):
        return _page(request, creator, message, form, timing)
    now = timezone.now()
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
        if not press(lambda: _saved(request, form), send):
            return _page(request, creator, message, form, timing)
    except ConfirmRefused as refused:
        return _page(request, creator, message, form, timing, refused=refused)
    tasks.wake_release(pk)
    return redirect("studio:release", creator.slug, pk)


@of_creator(Right.SEND)
@post_only("studio:compose", "pk")
def publish(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Saves the draft, then gives it without a mail, now or at the chosen time."""
    message = _message_of(creator, pk)
    form, timing = ComposeForm(request.POST, message=message), TimingForm(request.POST)
    if message.release.state != Release.State.DRAFT:
        return redirect("studio:release", creator.slug, pk)
    if not (form.is_valid() and timing.is_valid()):
        return _page(request, creator, message, form, timing)
    now = timezone.now()

    def give() -> None:
        publish_draft(
            message, revision=message.revision, publish_at=timing.due_at or now, by=request.user, now=now
        )

    try:
        if not press(lambda: _saved(request, form), give):
            return _page(request, creator, message, form, timing)
    except (ReleaseRefused, DraftChanged, StillUploading) as refused:
        return _page(request, creator, message, form, timing, refused=refused)
    tasks.wake_release(pk)
    return redirect("studio:release", creator.slug, pk)


@of_creator(Right.PREPARE)
@post_only("studio:compose", "pk")
def test(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Saves the draft and sends its mail to the person who asks, and to nobody else."""
    message = _message_of(creator, pk)
    form = ComposeForm(request.POST, message=message)
    if not (form.is_valid() and _saved(request, form)):
        return _page(request, creator, message, form)
    try:
        address = send_test(message, to=request.user, now=timezone.now())
    except (TestRefused, WordsRefused) as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, _("A test is on its way to %(address)s.") % {"address": address})
    return redirect("studio:compose", creator.slug, pk)


@of_creator(Right.PREPARE)
def delete_draft(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """Asks once; what was confirmed is not deleted."""
    release = get_object_or_404(creator.releases, pk=pk, state=Release.State.DRAFT)
    if request.method != "POST":
        return render(request, "studio/delete_draft.html", {"creator": creator, "release": release})
    try:
        discard_draft(release)
    except AlreadyConfirmed as refused:
        messages.error(request, str(refused))
        return redirect("studio:release", creator.slug, pk)
    messages.success(request, _("The draft is deleted."))
    return redirect("studio:releases", creator.slug)


@csp(MAIL_POLICY)  # type: ignore[untyped-decorator]
@of_creator(Right.READ)
def preview(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """The mail alone, for the frame on the page of steps, as one of its readers gets it."""
    message = _message_of(creator, pk)
    sample = queries.sample(message, request.GET.get("as", ""), now=timezone.now())
    if sample.mail is None:
        return HttpResponse(sample.problem, content_type="text/plain; charset=utf-8")
    return HttpResponse(sample.mail.html)


@of_creator(Right.READ)
def check_part(request: StudioRequest, creator: Creator, pk: int, part: str) -> HttpResponse:
    """Who is in one part of the check, by name."""
    message = _message_of(creator, pk)
    if part not in words.PARTS_OF_CHECK:
        raise Http404
    reason, after = words.REASONS_OF_CHECK[part], row_number(request.GET.get("after", ""))
    context = {
        "creator": creator,
        "release": message.release,
        "heading": words.PARTS_OF_CHECK[part],
        "part": queries.people_in_part(message, reason, after=after, size=PEOPLE_A_PAGE, now=timezone.now()),
    }
    return render(request, "studio/check_part.html", context)


def _message_of(creator: Creator, pk: int) -> Message:
    release = get_object_or_404(creator.releases.select_related("creator"), pk=pk)
    message = start_message(release)
    message.release = release
    return message


def _saved(request: StudioRequest, form: ComposeForm) -> bool:
    """Whether the draft is as the form says; somebody else may have changed or confirmed it meanwhile."""
    try:
        form.save(by=request.user, now=timezone.now())
    except (AlreadyConfirmed, DraftChanged, MessageConfirmed) as refused:
        form.add_error(None, str(refused))
        return False
    return True


def _other(message: Message, form: ComposeForm, refused: Exception | None) -> OtherDraft | None:
    """The draft as somebody else left it, where this page was not saved because of them."""
    if not (isinstance(refused, DraftChanged) or form.non_field_errors()):
        return None
    fresh = Message.objects.select_related("release__creator", "saved_by").get(pk=message.pk)
    changed = isinstance(refused, DraftChanged) or fresh.state == Message.State.DRAFT
    return other_draft(fresh, form.typed()) if changed else None


def _page(
    request: StudioRequest,
    creator: Creator,
    message: Message,
    form: ComposeForm,
    timing: TimingForm | None = None,
    *,
    refused: Exception | None = None,
) -> HttpResponse:
    drafts = creator.releases.filter(pk=message.release_id, state=Release.State.DRAFT)
    if (refused or form.non_field_errors()) and not request.htmx and not drafts.exists():
        # Another press or another tab was quicker: what came of it is on the release's own page.
        return redirect("studio:release", creator.slug, message.release_id)
    now = timezone.now()
    timing = timing or TimingForm(initial={"request_id": uuid4(), "when": "now"})
    context = {
        "creator": creator,
        "message": message,
        "release": message.release,
        "form": form,
        "timing": timing,
        "refused": refused,
        "other": (other := _other(message, form, refused)),
        "revision": request.POST.get("revision", "") if other else message.revision,
        "outlook": (found := outlook_of(message, now=now, at=timing.due_at)),
        "offer": next_minute(getattr(refused, "next_at", None) or found.verdict.next_at),
        "parts": words.of_check(found),
        "steps": words.of_steps(
            bundles=bool(form.chosen("bundles")),
            groups=bool(form.chosen("groups")),
            subject=bool(message.subject),
        ),
        "sample": queries.sample(message, request.POST.get("as") or request.GET.get("as", ""), now=now),
        "readers": queries.readers(message, now=now),
        "paces": queries.paces(message.release, now=now),
    }
    if request.htmx:
        return render(request, "studio/compose_beside.html", context)
    choices = {
        "bundles": queries.bundle_choices(creator, form.chosen("bundles")),
        "groups": queries.group_cards(creator, now=now),
        "chosen_groups": form.chosen("groups"),
        "placeholders": PLACEHOLDERS,
    }
    return render(request, "studio/compose.html", {**context, **choices})
