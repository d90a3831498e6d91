"""Where mail providers post what became of our mails."""

from io import BytesIO

from django.contrib.auth.decorators import login_not_required
from django.core.handlers.wsgi import WSGIRequest
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
        take_events(provider, hear(provider, _whole(request), now=now), now=now)
    except HookRefused as refused:
        answer = HttpResponse(str(refused), status=refused.status, content_type="text/plain; charset=utf-8")
        if refused.status == 401:
            # Amazon gives the name and the password only when it is asked.
            answer["WWW-Authenticate"] = 'Basic realm="events"'
        return answer
    return HttpResponse()


def _whole(request: HttpRequest) -> HttpRequest:
    """`request` with its body here, small, and as it is: unpacked it could be anything. Raises `HookRefused`."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise HookRefused(_("Send it unpacked."))
    if "Transfer-Encoding" in request.headers:
        return _joined(request)
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()):
        raise HookRefused(_("Say how long it is."))
    if int(length) > MOST_BYTES:
        raise _too_much()
    try:
        request.body  # noqa: B018 – read here, so that whoever hangs up is nobody's error
    except UnreadablePostError as error:
        raise HookRefused(_("It broke off.")) from error
    return request


def _joined(request: HttpRequest) -> HttpRequest:
    """One that came in chunks, so that nobody said how long it is: Django itself would find nothing in it."""
    if not request.META.get("wsgi.input_terminated"):
        raise HookRefused(_("Say how long it is."))
    body = b""
    try:
        while part := request.META["wsgi.input"].read(MOST_BYTES + 1 - len(body)):
            body += part
    except Exception as error:
        # Each web server has its own way to say that chunks are none.
        raise HookRefused(_("It broke off.")) from error
    if len(body) > MOST_BYTES:
        raise _too_much()
    known = {**request.META, "CONTENT_LENGTH": str(len(body)), "wsgi.input": BytesIO(body)}
    return WSGIRequest(known)


def _too_much() -> TooMuch:
    return TooMuch(_("At most %(most)s bytes at once.") % {"most": MOST_BYTES})
