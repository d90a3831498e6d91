"""Whom a mail did not reach, by name, with the reason and what can be done about it."""

from datetime import datetime, timedelta

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.addresses import AddressRefused
from distribution.models import Release
from distribution.services import settle_waiting
from groups.models import Creator
from groups.rights import Right
from groups.services import AddressSuppressed, AddressTaken, change_address
from messaging import tasks
from messaging.models import Delivery, Message
from messaging.services import CannotSteer, deliveries_in, progress, readdress, resend
from messaging.services.digests import last_moment
from studio import queries, steering
from studio.forms.sending import AddressForm
from studio.scope import StudioRequest, of_creator, post_only, posted, row_number

A_PAGE = 50
# In one press; with more it is pressed again.
MOST_AT_ONCE = 5_000
# So long after it was handed over, an answer may still come.
ANSWER_COMES = timedelta(hours=24)


@of_creator(Right.READ)
def undelivered(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """The people of one message whom its mail did not reach, one state at a time."""
    release = get_object_or_404(creator.releases.select_related("creator"), pk=pk)
    told = list(release.messages.exclude(state=Message.State.DRAFT).order_by("pk"))
    message = next(
        (one for one in told if str(one.pk) == request.GET.get("message")), told[0] if told else None
    )
    if message is None:
        return redirect("studio:release", creator.slug, pk)
    message.release, now, q = release, timezone.now(), request.GET.get("q", "")[:100]
    counts = progress(message, now=now).counts
    states = [state for state in steering.UNDELIVERED if counts.get(state)]
    state = request.GET.get("state", "")
    state = state if state in steering.UNDELIVERED else next(iter(states), "unknown")
    page = queries.undelivered(message, state, request.GET, q=q, size=A_PAGE)
    context = {
        "creator": creator,
        "release": release,
        "message": message,
        "told": told,
        "state": state,
        "q": q,
        "lost": steering.UNDELIVERED[state],
        "tabs": _tabs(message, states, state, counts),
        "page": page,
        "number": counts.get(state, 0),
        "rows": queries.with_teller(page),
        "most": MOST_AT_ONCE,
        "young": state == Delivery.State.UNKNOWN,
        "digest_at": last_moment(creator, now + timedelta(days=7)) if state == "held" else None,
        "can_send": request.may_send and not release.recalled_at and message.state in {"running", "done"},
    }
    return render(request, "studio/undelivered.html", context)


@of_creator(Right.SEND)
@post_only("studio:undelivered", "pk")
def resend_mails(request: StudioRequest, creator: Creator, pk: int) -> HttpResponse:
    """The ticked, or everybody in the state, are written to once more."""
    message = _message_of(creator, pk, request.POST.get("message", ""))
    state = request.POST.get("state", "")
    lost = steering.UNDELIVERED.get(state)
    now, back = timezone.now(), _back(message, state)
    if lost is None or not lost.resend:
        return redirect(back)
    chosen = _chosen(message, state, request.POST, now)
    numbers = list(chosen.values_list("pk", flat=True)[:MOST_AT_ONCE])
    try:
        again = resend(Delivery.objects.filter(pk__in=numbers), message=message, by=request.user, now=now)
    except CannotSteer as refused:
        messages.error(request, str(refused))
        return redirect(back)
    if again:
        tasks.wake_message(message.pk)
        messages.success(request, steering.of_resent(again))
    elif state == Delivery.State.UNKNOWN and "sure" not in request.POST:
        messages.error(
            request,
            _(
                "Nothing was sent: their answer may still come in the first 24 hours. To send now all the same, tick that"
                " they may get it twice."
            ),
        )
    else:
        messages.error(request, _("Nothing was sent: tick those who are to get it again."))
    return redirect(back)


@of_creator(Right.SEND)
def change_address_of(request: StudioRequest, creator: Creator, pk: int, number: int) -> HttpResponse:
    """Asks where somebody is written to from now on; the mail that did not reach them goes there."""
    release = get_object_or_404(creator.releases, pk=pk)
    mails = Delivery.objects.select_related("contact__creator", "message__release__creator")
    delivery = get_object_or_404(mails, pk=number, message__release=release)
    form = AddressForm(posted(request))
    if form.is_valid():
        try:
            change_address(
                delivery.contact, form.cleaned_data["address"], by=request.user, now=timezone.now()
            )
        except (AddressRefused, AddressSuppressed, AddressTaken) as refused:
            form.add_error("address", str(refused))
        else:
            _send_there(request, delivery)
            return redirect(_back(delivery.message, delivery.state))
    context = {
        "creator": creator,
        "delivery": delivery,
        "form": form,
        "back": _back(delivery.message, delivery.state),
        "lost": steering.UNDELIVERED.get(delivery.state),
    }
    return render(request, "studio/change_address.html", context)


def _send_there(request: StudioRequest, delivery: Delivery) -> None:
    now, contact = timezone.now(), delivery.contact
    if contact.account:
        # Whoever has verified it is known now: what waited for the contact is theirs.
        settle_waiting(contact.account, now=now)
    try:
        sent = readdress(delivery, by=request.user, now=now)
    except CannotSteer as refused:
        messages.warning(request, _("The address is changed. %(but)s") % {"but": refused})
        return
    if sent:
        tasks.wake_message(delivery.message_id)
        messages.success(request, _("The address is changed, and the mail goes there within a minute."))
    else:
        messages.success(request, _("The address is changed. The next mail goes there."))


def _chosen(message: Message, state: str, post: QueryDict, now: datetime) -> QuerySet[Delivery]:
    found = deliveries_in(message, state)
    if "everybody" not in post:
        found = found.filter(pk__in=[row_number(number) for number in post.getlist("pick")[:MOST_AT_ONCE]])
    if state == Delivery.State.UNKNOWN and "sure" not in post:
        found = found.filter(offered_at__lte=now - ANSWER_COMES)
    return found.order_by("contact")


def _message_of(creator: Creator, pk: int, number: str) -> Message:
    release: Release = get_object_or_404(creator.releases, pk=pk)
    return get_object_or_404(
        Message.objects.select_related("release__creator"), release=release, pk=row_number(number)
    )


def _back(message: Message, state: str) -> str:
    path = reverse("studio:undelivered", args=[message.release.creator.slug, message.release_id])
    return f"{path}?message={message.pk}&state={state if state in steering.UNDELIVERED else ''}"


def _tabs(
    message: Message, states: list[str], current: str, counts: dict[str, int]
) -> list[dict[str, object]]:
    return [
        {
            "label": steering.UNDELIVERED[state].label,
            "href": f"?message={message.pk}&state={state}",
            "count": steering.counted(counts[state]),
            "current": state == current,
        }
        for state in states
    ]
