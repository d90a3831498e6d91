"""The sweeps in the worker itself: what is due is found whether beat runs or not, and whatever the broker says."""

import logging
import threading
from typing import Any

from celery import Celery
from celery.signals import worker_init, worker_shutdown, worker_shutting_down
from django.db import connections

log = logging.getLogger(__name__)

_stopping = threading.Event()
_rounds: list[threading.Thread] = []


@worker_init.connect
def sweep_by_itself(sender: Any, **_kwargs: object) -> None:
    """A worker that comes up does at once, and then again and again, what beat would ask of its queues."""
    _stopping.clear()
    for name, seconds in rounds(sender.app):
        thread = threading.Thread(
            target=go_round, args=(sender.app.tasks[name], seconds), name=name, daemon=True
        )
        thread.start()
        _rounds.append(thread)


@worker_shutting_down.connect
def stop_sweeping(**_kwargs: object) -> None:
    _stopping.set()


@worker_shutdown.connect
def end_sweeping(**_kwargs: object) -> None:
    """A round that is under way ends as its task ends when a worker is asked to go: between two mails."""
    _stopping.set()
    while _rounds:
        _rounds.pop().join()


def rounds(app: Celery) -> list[tuple[str, float]]:
    """The tasks of beat's schedule that this worker's queues are for, each with its seconds."""
    usual, ours = {"queue": app.conf.task_default_queue}, set(app.amqp.queues.consume_from)
    return [
        (name, float(entry["schedule"]))
        for name, entry in app.conf.beat_schedule.items()
        if (app.amqp.router.lookup_route(name) or usual)["queue"] in ours
    ]


def go_round(task: Any, seconds: float) -> None:
    """Calls `task` in this thread, every `seconds`, until the worker goes. What goes wrong in one round ends no other."""
    while not _stopping.is_set():
        try:
            task()
        except Exception:
            log.exception("%s", task.name)
        finally:
            # Idle most of the time: kept for that, there would be a connection for each sweep and worker.
            connections.close_all()
        _stopping.wait(seconds)
