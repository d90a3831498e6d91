"""A message as mails: rendered once, then only the values change."""

from messaging.mail.encoding import display_name, encode_line
from messaging.mail.mailing import LARGEST_HTML, Mail, Mailing, message_id_of
from messaging.mail.recipients import (
    Also,
    Recipient,
    also_of,
    call_name,
    group_names,
    links_of,
    recipient_of,
    sample_recipient,
)

__all__ = [
    "LARGEST_HTML",
    "Also",
    "Mail",
    "Mailing",
    "Recipient",
    "also_of",
    "call_name",
    "display_name",
    "encode_line",
    "group_names",
    "links_of",
    "message_id_of",
    "recipient_of",
    "sample_recipient",
]
