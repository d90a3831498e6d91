"""Whom the mail system treats how: a member's address says it. Shared by the stage and the judge; plain Python."""

from fnmatch import fnmatch

# What the recording server does to the addresses that begin so, and how many of a thousand (or just how many) there are.
SMTP_FAULTS = {
    # Refused for the moment, once each: they get their mail later.
    "later": "rcpt:451 4.3.0 later",
    "busy": "dot:451 4.3.0 later",
    # Refused for good.
    "gone": "rcpt:550 5.1.1 no such user",
    "never": "dot:554 5.7.1 not with us",
    # The one moment that no order of writes can close: taken, and nobody says so.
    "mute": "taken:silence",
    "torn": "taken:reset",
    # Nothing was taken, and nobody says so.
    "deaf": "dot:silence",
    "cut": "content:reset",
}
# The same of the HTTP provider, whose calls hold many mails: what strikes one strikes its call.
HTTP_FAULTS = {
    "later107@": "429:1",
    "later?5107@": "429:1",
    "gone": "refuse:no such mailbox",
    "never": "refuse:not with us",
    "mute": "taken-silence",
    "torn": "taken-kill",
    "deaf": "silence",
    "cut": "500",
}
# With which the provider signs what it posts.
SIGNING = "c2lnbmluZy1zZWNyZXQtb2YtcmVzZW5k"
_OF_A_THOUSAND = {107: "later", 207: "busy", 307: "gone", 407: "never"}
_FEW = ("mute", "torn", "deaf", "cut")
# Who gets nothing for good reason, and who is in doubt until somebody looks into the log.
REFUSED = ("gone", "never")
DOUBTFUL = _FEW


def address_of(number: int, of: int) -> str:
    """The `number`th member's address: m42@example.net, or one that the mail system has its own way with."""
    prefix = _OF_A_THOUSAND.get(number % 1000, "m")
    # Two of each, in the middle of the run and near its end.
    for at, name in enumerate(_FEW):
        if number in (of // 2 + at * 11, of * 9 // 10 + at * 11):
            prefix = name
    return f"{prefix}{number}@example.net"


def smtp_faults() -> list[str]:
    """As the recorder's `--fault`. Each of the faults that leave doubt happens once an address: settled as not taken, a
    mail is offered again and gets through.
    """
    once = {"later", "busy", *_FEW}
    return [f"{name}[0-9]*{'!' if name in once else ''}={what}" for name, what in SMTP_FAULTS.items()]


def http_faults() -> list[str]:
    """As the provider's `--fault`."""
    return [
        f"{name}{'' if '@' in name else '[0-9]'}*{'' if name in REFUSED else '!'}={what}"
        for name, what in HTTP_FAULTS.items()
    ]


def treated(address: str) -> str:
    """How: one of the names above, or empty."""
    return next((name for name in SMTP_FAULTS if fnmatch(address, f"{name}[0-9]*")), "")
