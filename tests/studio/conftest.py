"""Ana at her studio, and how many queries a page of it asks."""

import html
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from groups.models import Creator

# How long somebody who looked waits for the other one to look, too, before they save.
PAUSE = 1.0


@pytest.fixture
def studio(client_of: Callable[[User | None], Client], owner: User, creator: Creator) -> Client:
    """The owner's browser."""
    return client_of(owner)


@pytest.fixture
def queries_of(studio: Client) -> Callable[[str], int]:
    def count(page: str) -> int:
        with CaptureQueriesContext(connection) as asked:
            assert studio.get(page).status_code == 200
        return len(asked)

    return count


def url(name: str, *args: Any) -> str:
    return reverse(f"studio:{name}", args=["anas-forge", *args])


def fill_in(browser: Client, address: str, typed: dict[str, Any]) -> Any:
    """What a browser sends when somebody types `typed` into the form at `address`: with what the form showed."""
    return browser.post(address, {**hidden_in(browser.get(address).content.decode()), **typed})


def hidden_in(page: str) -> dict[str, str]:
    """What the form on a page remembers of what it showed when it was opened."""
    found = re.search(r'name="opened" value="([^"]*)"', page)
    assert found, page
    return {"opened": html.unescape(found[1])}


def together(look: Callable[..., Any]) -> Callable[..., Any]:
    """`look`, after which each of two threads waits for the other: both have looked before either saves.

    Where a lock lets only one of them look, that one goes on alone.
    """
    both = threading.Barrier(2)

    def slowly(*args: Any) -> Any:
        found = look(*args)
        with suppress(threading.BrokenBarrierError):
            both.wait(PAUSE)
        return found

    return slowly


def clock(moment: datetime) -> str:
    """A moment as somebody types it who looks at the creator's clock, which never shows an hour that is left out."""
    return timezone.localtime(moment, ZoneInfo("Europe/Berlin")).strftime("%Y-%m-%dT%H:%M")
