"""The product's settings, with what tests change: scratch folders, a quick hash, mail kept in memory."""

import os
import secrets
import tempfile

os.environ.setdefault("VAR_DIR", tempfile.mkdtemp(prefix="largesse-tests-"))
os.environ.setdefault("SITE_URL", "http://testserver")
os.environ.setdefault("CREATORS", "open")

from config.settings import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
STORAGES = {
    **STORAGES,  # noqa: F405
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
CELERY_TASK_ALWAYS_EAGER = False
# A wake-up in a test goes where no worker listens: tests call the services, and correctness never depends on being
# woken. With REDIS_URL it goes through Redis all the same, under names of this process's own.
if REDIS_URL:  # noqa: F405
    _own = f"tests-{secrets.token_hex(4)}:"
    CACHES["default"] |= {"BACKEND": "tests.own_redis.OwnRedis", "KEY_PREFIX": _own}  # noqa: F405
    CELERY_BROKER_TRANSPORT_OPTIONS = {"global_keyprefix": _own}
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    CELERY_BROKER_URL = "memory://"
STATIC_ROOT.mkdir(exist_ok=True)  # noqa: F405
if "postgresql" in DATABASES["default"]["ENGINE"]:  # noqa: F405
    # What a test writes need not outlive the machine.
    DATABASES["default"]["OPTIONS"]["options"] += " -c synchronous_commit=off"  # noqa: F405
    # On another day its clock is a function of the tests' own, which stands before PostgreSQL's.
    DATABASES["default"]["OPTIONS"]["options"] += " -c search_path=public,pg_catalog"  # noqa: F405
