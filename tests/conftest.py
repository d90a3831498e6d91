"""The cast: a creator with her owner and groups, a member, and a stranger who runs a creator of his own."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from django.conf import LazySettings, settings
from django.db.backends.signals import connection_created
from django.test import Client, SimpleTestCase
from pytest_django import DjangoDbBlocker

from accounts.models import User
from groups.models import Contact, Creator, Group
from tests import factories
from tests.anyday import OtherDay, choose
from tests.locks import watch_locks

connection_created.connect(watch_locks)

OTHER_DAY = pytest.StashKey[OtherDay]()


def pytest_configure(config: pytest.Config) -> None:
    """ANYDAY sets the suite's clock: to an instant, or to a random one. The workers' too, who inherit it."""
    if wanted := os.environ.get("ANYDAY"):
        at = choose(wanted, now=datetime.now(UTC))
        os.environ["ANYDAY"] = at.isoformat()
        config.stash[OTHER_DAY] = OtherDay(at)


def pytest_unconfigure(config: pytest.Config) -> None:
    if day := config.stash.get(OTHER_DAY, None):
        day.leave()


def pytest_report_header(config: pytest.Config) -> list[str]:
    day = config.stash.get(OTHER_DAY, None)
    again = "on another day; the same once more: make test-anyday ANYDAY={:%Y-%m-%dT%H:%M:%SZ}"
    return [again.format(day.at)] if day else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Those that start whole processes first: what is left at the end is short, and no core waits for the other.
    items.sort(key=lambda item: not starts_processes(item))
    if "postgresql" in settings.DATABASES["default"]["ENGINE"]:
        skip, skipped = pytest.mark.skip(reason="asks for no service: run `make test`"), needs_no_service
    else:
        skip = pytest.mark.skip(reason="shown beside real servers only: run `make test-services`")
        skipped = is_for_postgresql
    for item in items:
        if skipped(item):
            item.add_marker(skip)


def starts_processes(item: pytest.Item) -> bool:
    slow = item.get_closest_marker("slow") and not item.get_closest_marker("django_db")
    return bool(slow or item.get_closest_marker("servers"))


def is_for_postgresql(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("postgres", "servers"))


def needs_no_service(item: pytest.Item) -> bool:
    """Whether it comes to the same with and without PostgreSQL and Redis: one of the two suites is enough."""
    named = any(item.get_closest_marker(name) for name in ("django_db", "servers", "e2e"))
    is_case = isinstance(item, pytest.Function) and issubclass(item.cls or object, SimpleTestCase)
    asked: list[str] = getattr(item, "fixturenames", [])
    return not (named or is_case or "db" in asked)


def pytest_sessionfinish() -> None:
    """Nobody takes the wake-ups of tests away: what this process left in Redis goes with it."""
    if settings.REDIS_URL:
        with redis.Redis.from_url(settings.REDIS_URL) as left:
            for key in left.scan_iter(f"*{settings.CACHES['default']['KEY_PREFIX']}*"):
                left.delete(key)


@pytest.fixture(scope="session")
def django_db_setup(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, pytestconfig: pytest.Config
) -> None:
    if day := pytestconfig.stash.get(OTHER_DAY, None):
        with django_db_blocker.unblock():
            day.tell_database()


@pytest.fixture(autouse=True)
def own_files(settings: LazySettings, tmp_path: Path) -> None:
    """Every test has its own disk."""
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.GATE_DIR = tmp_path / "gate"
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "private")},
        },
    }


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def owner(db: None) -> User:
    return factories.UserFactory.create(email="ana@forge.example", name="Ana Moreau")


@pytest.fixture
def creator(owner: User) -> Creator:
    return factories.CreatorFactory.create(name="Ana's Forge", slug="anas-forge", owner=owner)


@pytest.fixture
def patrons(creator: Creator) -> Group:
    return factories.GroupFactory.create(creator=creator, name="Patrons")


@pytest.fixture
def hobbyist(patrons: Group) -> Group:
    return factories.GroupFactory.create(creator=patrons.creator, parent=patrons, name="Hobbyist")


@pytest.fixture
def collector(patrons: Group) -> Group:
    return factories.GroupFactory.create(creator=patrons.creator, parent=patrons, name="Collector")


@pytest.fixture
def merchant(patrons: Group) -> Group:
    return factories.GroupFactory.create(creator=patrons.creator, parent=patrons, name="Merchant")


@pytest.fixture
def member(db: None) -> User:
    return factories.UserFactory.create(email="mia@example.org", name="Mia Berg")


@pytest.fixture
def contact(creator: Creator, hobbyist: Group, member: User) -> Contact:
    """The member as the creator knows her: a Hobbyist with an account."""
    contact = factories.ContactFactory.create(
        creator=creator, address_key=member.email, name=member.name, account=member
    )
    factories.MembershipFactory.create(group=hobbyist, contact=contact)
    return contact


@pytest.fixture
def stranger(db: None) -> User:
    user = factories.UserFactory.create(email="sam@elsewhere.example", name="Sam Stone")
    factories.CreatorFactory.create(name="Sam's Shop", slug="sams-shop", owner=user)
    return user


@pytest.fixture
def client_of() -> Callable[[User | None], Client]:
    def client(user: User | None) -> Client:
        browser = Client()
        if user is not None:
            browser.force_login(user)
        return browser

    return client
