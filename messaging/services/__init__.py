"""What may be done to messages, one module a noun."""

from messaging.services.chunks import close_chunk, finish_message, open_chunk, send_chunk, send_waiting
from messaging.services.confirm import (
    AlreadyConfirmed,
    CannotSend,
    ConfirmRefused,
    NobodyToTell,
    NothingAttached,
    NotReady,
    TooSoon,
    confirm_message,
    start_message,
    unschedule_message,
)
from messaging.services.discard import discard_draft
from messaging.services.dry_run import Outlook, outlook
from messaging.services.numbers import Progress, deliveries_in, progress, unknown_deliveries
from messaging.services.plan import begin_sending, plan_deliveries
from messaging.services.preferences import preference_of, set_preference
from messaging.services.trial import TestRefused, preview, send_test

__all__ = [
    "AlreadyConfirmed",
    "CannotSend",
    "ConfirmRefused",
    "NobodyToTell",
    "NotReady",
    "NothingAttached",
    "Outlook",
    "Progress",
    "TestRefused",
    "TooSoon",
    "begin_sending",
    "close_chunk",
    "confirm_message",
    "deliveries_in",
    "discard_draft",
    "finish_message",
    "open_chunk",
    "outlook",
    "plan_deliveries",
    "preference_of",
    "preview",
    "progress",
    "send_chunk",
    "send_test",
    "send_waiting",
    "set_preference",
    "start_message",
    "unknown_deliveries",
    "unschedule_message",
]
