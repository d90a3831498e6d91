"""The worker of a chaos run: the product's own, with places at which it can be shot or stopped, and quicker clocks.

`celery -A tests.chaos.worker` starts it. The product knows nothing of it: functions are wrapped from outside. Whoever
passes a place looks for an order of that name in CHAOS_ORDERS, such as `kill 3`: whoever takes it dies, or stops, at its
third passage. CHAOS_SABOTAGE takes out a guard (`tests/chaos/sabotage.py`).
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.conf import settings  # noqa: E402

from config.celery import app  # noqa: E402
from distribution.models import Grant  # noqa: E402
from distribution.services import grants  # noqa: E402
from messaging import tasks  # noqa: E402
from messaging.models import Delivery  # noqa: E402
from messaging.providers import NotOpen, SignInRefused  # noqa: E402
from messaging.services import chunks, plan, sending, settle  # noqa: E402
from rows import sets  # noqa: E402

__all__ = ["app"]

ROOMS = ("config", "studio", "messaging", "distribution", "library", "groups", "accounts", "rows")
ORDERS = Path(os.environ["CHAOS_ORDERS"])
PAGE = int(os.environ["CHAOS_PAGE"])

_taken: dict[str, tuple[str, int]] = {}


def swap(old: Any, new: Any) -> None:
    """Whoever of the product calls `old` by a name of its own calls `new`."""
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] in ROOMS]:
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)


def passes(place: str) -> None:
    """The order for this place, if there is one."""
    if place not in _taken:
        try:
            mine = (ORDERS / place).rename(ORDERS / f"{place}.{os.getpid()}")
        except FileNotFoundError:
            return
        what, _space, number = mine.read_text().partition(" ")
        _taken[place] = (what, int(number))
    what, number = _taken[place]
    if number > 1:
        _taken[place] = (what, number - 1)
        return
    del _taken[place]
    os.kill(os.getpid(), signal.SIGKILL if what == "kill" else signal.SIGSTOP)
    # Not a step further before it is heard.
    time.sleep(0.05)


def stoppable_after(
    function: Callable[..., Any], place: str, *, when: Callable[..., bool] = lambda done, *_args: bool(done)
) -> None:
    """`place` is passed after `function` returned something (or `when`)."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        done = function(*args, **kwargs)
        if when(done, *args):
            passes(place)
        return done

    swap(function, wrapped)


def in_pages(function: Callable[..., Any]) -> Callable[..., Any]:
    """As many pages as a big run has, whatever the size of this one."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{"page": PAGE, **kwargs})

    swap(function, wrapped)
    return wrapped


def _make_stoppable() -> None:
    for model, what in ((Grant, "grants"), (Delivery, "deliveries")):
        # Written, not committed.
        stoppable_after(
            sets.insert_from,
            f"mid_page_of_{what}",
            when=lambda _done, _query, of, *_args, model=model: of is model,
        )
    stoppable_after(in_pages(grants.fan_out_grants), "after_last_page_of_grants")
    stoppable_after(in_pages(plan.plan_deliveries), "after_last_page_of_deliveries")
    stoppable_after(chunks.open_chunk, "after_leasing")
    stoppable_after(chunks._let_go, "closing", when=lambda *_args: True)
    stoppable_after(chunks.close_chunk, "after_closing", when=lambda *_args: True)
    make = tasks.provider

    def provider() -> Any:
        way = make()
        offer = way.offer

        def offer_and_stop(mails: Any) -> Any:
            passes("after_intent")
            answers = offer(mails)
            passes("after_answer")
            return answers

        way.offer = offer_and_stop  # type: ignore[method-assign]
        return way

    swap(make, provider)


def _quicken() -> None:
    """Seconds instead of minutes, in the product's own proportions."""
    settings.EMAIL_TIMEOUT = 2
    grants.LEASE_SECONDS = plan.LEASE_SECONDS = 3
    sending.BACKOFF = [timedelta(seconds=2)] * 7
    sending.DOUBTFUL_SECONDS = 3.0
    settle.LEASE_SECONDS = 8.0
    NotOpen.seconds, SignInRefused.seconds = 1.0, 2.0


_quicken()
_make_stoppable()
if sabotage := os.environ.get("CHAOS_SABOTAGE"):
    from tests.chaos.sabotage import GUARDS

    GUARDS[sabotage]()
