"""The pages behind a mail's last lines. The signed link is the permission; nobody has to sign in to be left alone."""

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from groups.models import Contact
from messaging.models import Preference
from messaging.services import preference_of, set_preference
from messaging.tokens import ForgedToken, read_preferences_token


@csrf_exempt  # a mail program posts here by itself, without cookie or page (RFC 8058)
@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """A POST stops the mail at once; a GET, which scanners make too, only shows the button."""
    contact = _contact(token)
    if request.method == "POST":
        set_preference(contact, Preference.Choice.NOTHING, now=timezone.now())
        return render(request, "messaging/unsubscribed.html", {"contact": contact, "token": token})
    return render(request, "messaging/unsubscribe.html", {"contact": contact, "token": token})


@csrf_exempt  # the link is the permission, and the button must work where cookies are off
@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def preferences(request: HttpRequest, token: str) -> HttpResponse:
    """Each release or nothing, from one creator; what was chosen can be changed back here."""
    contact = _contact(token)
    saved = False
    if request.method == "POST" and request.POST.get("choice") in Preference.Choice:
        set_preference(contact, Preference.Choice(request.POST["choice"]), now=timezone.now())
        saved = True
    context = {"contact": contact, "choice": preference_of(contact), "saved": saved, "token": token}
    return render(request, "messaging/preferences.html", context)


def _contact(token: str) -> Contact:
    """Whose link it is. A forged one and one of a contact that is gone are not told apart."""
    try:
        return Contact.objects.select_related("creator").get(pk=read_preferences_token(token))
    except (ForgedToken, Contact.DoesNotExist) as error:
        raise Http404 from error
