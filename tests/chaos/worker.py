"""The worker of a chaos run: the product's own, with places at which it can be shot or stopped, and quicker clocks.

`celery -A tests.chaos.worker` starts it. The product knows nothing of it: functions are wrapped from outside. Whoever
passes a place looks for an order of that name in CHAOS_ORDERS, such as `kill 3`: whoever takes it dies, or stops, at its
third passage. CHAOS_SABOTAGE takes out a guard (`tests/chaos/sabotage.py`).
"""

import os
import signal
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
from distribution.services import grants, recall  # noqa: E402
from groups.services import applying, checking, judging, readdressing  # noqa: E402
from library.services import uploads  # noqa: E402
from library.services.holdings import end_holdings  # noqa: E402
from messaging import tasks  # noqa: E402
from messaging.models import Delivery  # noqa: E402
from messaging.providers import NotOpen, SignInRefused  # noqa: E402
from messaging.services import chunks, plan, sending, settle  # noqa: E402
from rows import sets, work  # noqa: E402
from tests.chaos.wrapping import in_pages, swap  # noqa: E402

__all__ = ["app"]

ORDERS = Path(os.environ["CHAOS_ORDERS"])

# Seconds; a run of work says how many, others see the product's own day.
ABANDONED_AFTER = float(os.environ.get("CHAOS_ABANDONED_AFTER", "86400"))

_taken: dict[str, tuple[str, int]] = {}


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


def _make_work_stoppable() -> None:
    """Work that is not mail: recalls, imports, uploads, late joiners."""
    for function in (
        recall.take_back_release,
        grants.extend_to_late_joiners,
        checking.check_import,
        applying.apply_import,
    ):
        in_pages(function)
    for function, place in (
        # Written, not committed.
        (end_holdings, "mid_page_of_recall"),
        (judging.judge_rows, "mid_page_of_import"),
        (applying._end_gone, "mid_end_of_import"),
        (uploads._blob_of, "mid_placing"),
        # Committed, and not told to anybody.
        (recall._end_page, "after_page_of_recall"),
        (checking._check_page, "after_page_of_check"),
        (readdressing.pass_on_addresses, "after_passing_on"),
        (applying._apply_page, "after_page_of_import"),
        (uploads._examine, "after_examining"),
        (uploads._place, "after_placing"),
    ):
        stoppable_after(function, place, when=lambda *_args: True)
    # The content was there: the bytes that came with this upload are nobody's, and not yet gone.
    stoppable_after(
        uploads._place, "after_placing_a_copy", when=lambda kept, upload, *_args: kept != upload.storage_key
    )
    stoppable_after(grants._give_missing, "after_late_joiners")


def _quicken() -> None:
    """Seconds instead of minutes, in the product's own proportions."""
    settings.EMAIL_TIMEOUT = 2
    grants.LEASE_SECONDS = plan.LEASE_SECONDS = recall.LEASE_SECONDS = 3
    checking.LEASE_SECONDS = applying.LEASE_SECONDS = uploads.VERIFY_LEASE_SECONDS = 3
    uploads.ABANDONED_AFTER = timedelta(seconds=ABANDONED_AFTER)
    work.FIRST_WAIT = work.LONGEST_WAIT = work.AWAY_WAIT = timedelta(seconds=1)
    sending.BACKOFF = [timedelta(seconds=2)] * 7
    sending.DOUBTFUL_SECONDS = 3.0
    settle.LEASE_SECONDS = 8.0
    NotOpen.seconds, SignInRefused.seconds = 1.0, 2.0


_quicken()
_make_stoppable()
_make_work_stoppable()
if sabotage := os.environ.get("CHAOS_SABOTAGE"):
    from tests.chaos.sabotage import GUARDS

    GUARDS[sabotage]()
