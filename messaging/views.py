"""The pages behind a mail's last lines. The signed link is the permission; nobody has to sign in to be left alone."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from groups.models import Contact
from messaging.forms import ReportForm
from messaging.models import Delivery, Preference
from messaging.services import preference_of, report_message, set_preference
from messaging.tokens import ForgedToken, preferences_token, read_preferences_token, read_why_token
from messaging.why import why_mailed


def behind_a_link(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """For whoever has the link, and for nobody's cache, index or Referer.

    Without CSRF: the link is the permission, a mail program posts by itself (RFC 8058), and the buttons must work
    where cookies are off.
    """

    @wraps(view)
    def quiet(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = view(request, *args, **kwargs)
        response["Referrer-Policy"] = "no-referrer"
        response["X-Robots-Tag"] = "noindex, nofollow"
        return response

    return csrf_exempt(login_not_required(never_cache(quiet)))


@behind_a_link
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """A POST stops the mail at once; a GET, which scanners make too, only shows the button."""
    contact = _contact(token)
    if request.method == "POST":
        set_preference(contact, Preference.Choice.NOTHING, now=timezone.now())
        return render(request, "messaging/unsubscribed.html", {"contact": contact, "token": token})
    return render(request, "messaging/unsubscribe.html", {"contact": contact, "token": token})


@behind_a_link
@require_http_methods(["GET", "HEAD", "POST"])
def preferences(request: HttpRequest, token: str) -> HttpResponse:
    """Each release, one mail a week or nothing, from one creator; what was chosen can be changed back here."""
    contact = _contact(token)
    saved = False
    if request.method == "POST" and request.POST.get("choice") in Preference.Choice:
        set_preference(contact, Preference.Choice(request.POST["choice"]), now=timezone.now())
        saved = True
    context = {"contact": contact, "choice": preference_of(contact), "saved": saved, "token": token}
    return render(request, "messaging/preferences.html", context)


@behind_a_link
@require_safe
def why(request: HttpRequest, token: str) -> HttpResponse:
    """Which creator and which group a mail came from, since when, and what can be done about it."""
    delivery = _delivery(token)
    context = {
        "why": why_mailed(delivery, now=timezone.now()),
        "token": token,
        "preferences_token": preferences_token(delivery.contact_id),
    }
    return render(request, "messaging/why.html", context)


@behind_a_link
@require_http_methods(["GET", "HEAD", "POST"])
def report(request: HttpRequest, token: str) -> HttpResponse:
    """A POST tells the people who run this site, and stops the mail; a GET only shows the form."""
    delivery = _delivery(token)
    form = ReportForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        report_message(delivery, words=form.cleaned_data["words"], now=timezone.now())
        context = {"contact": delivery.contact, "token": preferences_token(delivery.contact_id)}
        return render(request, "messaging/reported.html", context)
    return render(
        request, "messaging/report.html", {"contact": delivery.contact, "form": form, "token": token}
    )


def _contact(token: str) -> Contact:
    """Whose link it is. A forged one and one of a contact that is gone are not told apart."""
    try:
        return Contact.objects.select_related("creator").get(pk=read_preferences_token(token))
    except (ForgedToken, Contact.DoesNotExist) as error:
        raise Http404 from error


def _delivery(token: str) -> Delivery:
    """Whose mail it is about, likewise."""
    known = Delivery.objects.select_related("message__release__creator", "contact__creator", "grant")
    try:
        return known.get(pk=read_why_token(token))
    except (ForgedToken, Delivery.DoesNotExist) as error:
        raise Http404 from error
