"""The product's settings, and what the rivals need beside."""

from config.settings import *  # noqa: F403

INSTALLED_APPS = [*INSTALLED_APPS, "post_office", "benchmarks.rivals"]  # noqa: F405
# As fast as it goes: batches as large as memory likes, a connection kept in every thread, failures logged alone.
POST_OFFICE = {
    "BATCH_SIZE": 1_000,
    "BATCH_DELIVERY_TIMEOUT": 600,
    "THREADS_PER_PROCESS": 4,
    "LOG_LEVEL": 1,
}
# One connection to the database a process, kept and not asked whether it still lives.
DATABASES["default"].update(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=False)  # noqa: F405
# Otherwise it writes its progress on the console, twice.
LOGGING["loggers"]["post_office"] = {"handlers": ["console"], "level": "WARNING", "propagate": False}  # noqa: F405
