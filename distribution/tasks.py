"""Wake-ups only: find what is due, call one service each."""

from celery import shared_task


@shared_task
def sweep() -> None:
    """Every 15 seconds: whatever is due in this room."""
