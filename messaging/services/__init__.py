"""What may be done to messages, one module a noun."""

from messaging.services.chunks import close_chunk, finish_message, open_chunk
from messaging.services.confirm import confirm_message, start_message, unschedule_message
from messaging.services.counting import ask_dry_run, count_dry_run
from messaging.services.digests import plan_digests
from messaging.services.discard import discard_draft
from messaging.services.drafts import Parts, Seen, publish_draft, save_draft
from messaging.services.dry_run import Outlook, outlook
from messaging.services.events import (
    apply_events,
    discard_events,
    forget_events,
    release_events,
    take_events,
)
from messaging.services.numbers import (
    Progress,
    deliveries_in,
    next_deliveries,
    progress,
    tallied,
    unknown_deliveries,
)
from messaging.services.plan import begin_sending, plan_deliveries
from messaging.services.preferences import preference_of, set_preference
from messaging.services.readdress import readdress
from messaging.services.refused import (
    AlreadyConfirmed,
    CannotSend,
    ConfirmRefused,
    DraftChanged,
    NobodyToTell,
    NothingAttached,
    NothingNew,
    NotReady,
    TooEarly,
    TooSoon,
)
from messaging.services.reminders import start_reminder
from messaging.services.reports import report_message
from messaging.services.reschedule import reschedule_message
from messaging.services.sending import send_chunk, send_waiting
from messaging.services.settle import Settlement, settle_by_log, settle_by_replay, settle_by_search
from messaging.services.stalls import standstill, watch
from messaging.services.steer import (
    CannotSteer,
    cancel_message,
    clear_cancelled,
    pause_message,
    resend,
    resume_message,
)
from messaging.services.trial import TestRefused, preview, send_test
from messaging.services.unlock import NotLocked, doubts, unlock_sending

__all__ = [
    "AlreadyConfirmed",
    "CannotSend",
    "CannotSteer",
    "ConfirmRefused",
    "DraftChanged",
    "NobodyToTell",
    "NotLocked",
    "NotReady",
    "NothingAttached",
    "NothingNew",
    "Outlook",
    "Parts",
    "Progress",
    "Seen",
    "Settlement",
    "TestRefused",
    "TooEarly",
    "TooSoon",
    "apply_events",
    "ask_dry_run",
    "begin_sending",
    "cancel_message",
    "clear_cancelled",
    "close_chunk",
    "confirm_message",
    "count_dry_run",
    "deliveries_in",
    "discard_draft",
    "discard_events",
    "doubts",
    "finish_message",
    "forget_events",
    "next_deliveries",
    "open_chunk",
    "outlook",
    "pause_message",
    "plan_deliveries",
    "plan_digests",
    "preference_of",
    "preview",
    "progress",
    "publish_draft",
    "readdress",
    "release_events",
    "report_message",
    "reschedule_message",
    "resend",
    "resume_message",
    "save_draft",
    "send_chunk",
    "send_test",
    "send_waiting",
    "set_preference",
    "settle_by_log",
    "settle_by_replay",
    "settle_by_search",
    "standstill",
    "start_message",
    "start_reminder",
    "take_events",
    "tallied",
    "unknown_deliveries",
    "unlock_sending",
    "unschedule_message",
    "watch",
]
