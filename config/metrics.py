"""How sending gets on, for Prometheus and whoever reads its text: progress, not load.

With METRICS_TOKEN whoever carries it as a bearer may read; without one only this machine, and nobody through a proxy.
"""

from collections.abc import Iterator
from ipaddress import ip_address

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from config.proxy import PROXIED
from messaging.figures import Figures, figures

GAUGES = {
    "gate_locked": "1 if an operator has to unlock sending.",
    "gate_resting": "1 if the mail system does not let us in just now.",
    "oldest_due_seconds": "How long the mail that could go and has waited longest has waited.",
    "messages_running": "Messages that are being sent.",
    "messages_waiting": "Messages that are begun or due and told to wait.",
    "messages_scheduled": "Messages whose time is still to come.",
    "messages_paused": "Messages that a person paused.",
    "messages_stalled": "Messages that should move and have not for ten minutes.",
    "deliveries_unknown": "Deliveries in doubt, of messages of the last 30 days.",
    "leases_expired": "Chunks whose worker did not come back.",
    "letters_waiting": "Codes and notices that are not out yet.",
    "oldest_letter_seconds": "How long the oldest of them has waited.",
    "events_new": "Provider events that are not applied yet.",
    "events_held": "Provider events that an operator has to look at.",
}


@login_not_required
@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    if not _may_read(request):
        raise Http404
    text = "".join(f"{line}\n" for line in _lines(figures(timezone.now())))
    return HttpResponse(text, content_type="text/plain; version=0.0.4; charset=utf-8")


def _may_read(request: HttpRequest) -> bool:
    if settings.METRICS_TOKEN:
        given = request.headers.get("Authorization", "")
        return constant_time_compare(given.encode(), f"Bearer {settings.METRICS_TOKEN}".encode())
    proxied = any(name in request.META for name in PROXIED)
    try:
        return not proxied and ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        # A socket file has no address: a proxy is before it.
        return False


def _lines(found: Figures) -> Iterator[str]:
    values = _values(found)
    for name, words in GAUGES.items():
        yield from _head(name, words, "gauge")
        yield f"largesse_{name} {values[name]:g}"
    if found.beat_age is not None:
        yield from _head("beat_seconds", "How long ago a worker last looked for mails to send.", "gauge")
        yield f"largesse_beat_seconds {found.beat_age:g}"
    yield from _head("answers_total", "What each way out said to our mails.", "counter")
    for provider, kinds in found.answers.items():
        for kind, number in kinds.items():
            yield f'largesse_answers_total{{provider="{_plain(provider)}",kind="{_plain(kind)}"}} {number}'


def _values(found: Figures) -> dict[str, float]:
    return {
        "gate_locked": found.locked,
        "gate_resting": found.resting,
        "oldest_due_seconds": found.oldest_due_age,
        "messages_running": found.running,
        "messages_waiting": found.waiting,
        "messages_scheduled": found.scheduled,
        "messages_paused": found.paused,
        "messages_stalled": found.stalled,
        "deliveries_unknown": found.unknown,
        "leases_expired": found.leases_expired,
        "letters_waiting": found.letters_waiting,
        "oldest_letter_seconds": found.oldest_letter_age,
        "events_new": found.events_new,
        "events_held": found.events_held,
    }


def _head(name: str, words: str, kind: str) -> Iterator[str]:
    yield f"# HELP largesse_{name} {words}"
    yield f"# TYPE largesse_{name} {kind}"


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
