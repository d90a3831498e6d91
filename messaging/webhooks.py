"""Where mail providers post what became of our mails."""

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from messaging.providers.hooks import HOOKS, HookRefused, TooMuch, hear, prove_name
from messaging.services import take_events

MOST_BYTES = 1_000_000


@csrf_exempt  # the provider's signature or the shared secret is the permission
@login_not_required
@never_cache
@require_POST
def provider_events(request: HttpRequest, provider: str) -> HttpResponse:
    """Events are kept, once each; a sweep applies them. A provider that is not set up does not exist."""
    if provider not in HOOKS or not HOOKS[provider].configured:
        raise Http404
    now = timezone.now()
    try:
        prove_name(provider, request)
        _fits(request)
        take_events(provider, hear(provider, request, now=now), now=now)
    except HookRefused as refused:
        answer = HttpResponse(str(refused), status=refused.status, content_type="text/plain; charset=utf-8")
        if refused.status == 401:
            # Amazon gives the name and the password only when it is asked.
            answer["WWW-Authenticate"] = 'Basic realm="events"'
        return answer
    return HttpResponse()


def _fits(request: HttpRequest) -> None:
    """The body is here, small, and as it is: unpacked it could be anything. Raises `HookRefused`."""
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise HookRefused(_("Send it unpacked."))
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        raise HookRefused(_("Say how long it is."))
    if int(length) > MOST_BYTES:
        raise TooMuch(_("At most %(most)s bytes at once.") % {"most": MOST_BYTES})
    try:
        request.body  # noqa: B018 – read here, so that whoever hangs up is nobody's error
    except UnreadablePostError as error:
        raise HookRefused(_("It broke off.")) from error
