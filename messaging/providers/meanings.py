"""What it means that a mail did not arrive, or that somebody reported it: one table for the replies of mail systems and
for the words of all providers.

A name says little. "Bounced" is also what a filter did not want, what was too large and what found a full mailbox; a
"complaint" may say that a mail is no spam, or that one long ago was. Only what is about the address itself may silence
it. So a reply is read by its enhanced status code (RFC 3463, RFC 7505 and the registry of IANA), then by its words;
what a provider calls it decides where neither does, or where its word is precise.
"""

import re

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from messaging.models import ProviderEvent


class Meaning(TextChoices):
    """What became of a mail, and why."""

    PENDING = "pending", _("on its way")
    DELIVERED = "delivered", _("delivered")
    COMPLAINT = "complaint", _("reported as spam")
    # The only one that is about the address: it is not there, and will not be.
    NOBODY = "nobody", _("there is no such address")
    MAILBOX = "mailbox", _("the mailbox is full or takes no mail now")
    CONTENT = "content", _("the mail is too large, or was not wanted for what is in it")
    POLICY = "policy", _("a rule of the receiving side stopped it")
    LISTED = "listed", _("it is on the mail provider's own list and was not tried")
    SYSTEM = "system", _("a mail system on the way failed, or gave up")
    UNCLEAR = "unclear", _("refused without a reason")
    NOTHING = "nothing", _("of no consequence")


M = Meaning
_Kind = ProviderEvent.Kind

KINDS = {
    M.PENDING: _Kind.ACCEPTED,
    M.DELIVERED: _Kind.DELIVERED,
    M.COMPLAINT: _Kind.COMPLAINED,
    M.NOBODY: _Kind.BOUNCED,
    M.MAILBOX: _Kind.REFUSED,
    M.CONTENT: _Kind.REFUSED,
    M.POLICY: _Kind.REFUSED,
    M.LISTED: _Kind.REFUSED,
    M.SYSTEM: _Kind.REFUSED,
    M.UNCLEAR: _Kind.REFUSED,
    M.NOTHING: _Kind.OTHER,
}

# --- replies ----------------------------------------------------------------------------------------------

# By subject and detail, or by subject alone, whatever else is said.
CODES = {
    "1.1": M.NOBODY,  # no such mailbox
    "1.2": M.NOBODY,  # no such system
    "1.3": M.NOBODY,  # not how an address is written
    "1.6": M.NOBODY,  # moved without a forwarding address
    "1.10": M.NOBODY,  # a domain that takes no mail (RFC 7505)
    "1.7": M.POLICY,  # how the sender's address is written
    "1.8": M.POLICY,  # the sender's system
    "2.2": M.MAILBOX,  # full
    "2.3": M.CONTENT,  # longer than this mailbox takes
    "3.4": M.CONTENT,  # larger than this system takes
    "6": M.CONTENT,
    "7": M.POLICY,
}
# By subject, where the words say nothing either. Subjects 0, 1 and 5 say nothing by themselves.
SUBJECTS = {"2": M.MAILBOX, "3": M.SYSTEM, "4": M.SYSTEM}

# In this order: what speaks against an address that is not there comes first.
WORDS = {
    M.LISTED: r"suppress|previously (bounced|unsubscribed|complained)",
    M.MAILBOX: r"quota|mailbox( is)? full|full mailbox|inbox (is|was) full|out of storage|insufficient storage",
    M.CONTENT: r"too (large|big|long)|message size|size limit|attachment|virus|malware|\bcontent\b",
    M.POLICY: r"\bspam|unsolicited|bulk|black ?list|block ?list|block(ed|ing)\b|banned|reputation|polic(y|ies)\b"
    r"|\bd(marc|kim)\b|\bspf\b|\b(dns)?[rd]?bl\b|\blisted\b|relay|denied|authenticat|not (allowed|permitted|authori[sz]ed)"
    r"|rate limit|at a rate|too many|too fast|gr[ae]y ?list",
    M.SYSTEM: r"too old|timed? ?out|expired|\bloop|try again|temporar|connection (refused|reset|lost)",
    M.NOBODY: r"(unknown|invalid|no such|not a valid|no valid) (user|recipient|mailbox|address|account)|(user|recipient|mailbox"
    r"|address|account)( is)? (unknown|invalid|unavailable|inactive|disabled|deactivated|not found|not known|doesn.t exist"
    r"|not exist)|does ?n.?.?t exist|(is|has been|was) (disabled|deactivated)|no mailbox|nobody here|no longer (exists|available"
    r"|in use|valid)|doesn.t have an? \S+ account|account that you tried to reach is (disabled|inactive)",
}
_WORDS = {meaning: re.compile(words, re.IGNORECASE) for meaning, words in WORDS.items()}
_CODE = re.compile(r"(?<![\d.])([45])\.(\d{1,3}\.\d{1,3})(?!\.?\d)")
_REPLY = re.compile(r"(?<![\d.])([45])\d\d(?![\d.])")
# Somebody's address or a page may be called anything.
_NAMES = re.compile(r"<[^<>]*>|\S+@\S+|https?:\S+")


def meaning_of(reply: str) -> Meaning | None:
    """What a mail system's `reply` to a mail means that it refused; None: it does not say."""
    codes, text = _CODE.findall(reply), _NAMES.sub(" ", reply)
    # Whoever says "not now" does not say "never".
    answer = _REPLY.search(text)
    never = (codes[0][0] if codes else answer[1] if answer else "5") == "5"
    said = [meaning for meaning, words in _WORDS.items() if words.search(text)]
    exact = next((CODES[name] for _class, code in codes for name in _names(code) if name in CODES), None)
    if exact == M.NOBODY:
        # A code that its own words contradict proves nothing.
        exact = M.NOBODY if not said or M.NOBODY in said else said[0]
    found = exact or next(iter(said), None)
    found = found or next((SUBJECTS[code[0]] for _class, code in codes if code[0] in SUBJECTS), None)
    return M.SYSTEM if found == M.NOBODY and not never else found


def names_nobody(reply: str) -> bool:
    """Whether a mail system says that there is no such address."""
    return meaning_of(reply) == M.NOBODY


def _names(code: str) -> tuple[str, str]:
    return code, code.partition(".")[0]


# --- providers' own words ---------------------------------------------------------------------------------

# What a provider's word leaves to the reply, with what it means where that says nothing.
FOR_GOOD = (M.NOBODY,)
FAILED = (M.UNCLEAR,)

# https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html#bounce-types, which Resend passes on. A transient
# one is told when it is not tried any more; one in general may be the answer of somebody who is away.
_AMAZON: dict[str, Meaning | tuple[Meaning]] = {
    "permanent": FOR_GOOD,
    "permanent/suppressed": M.LISTED,
    "permanent/onaccountsuppressionlist": M.LISTED,
    "transient": M.PENDING,
    "transient/mailboxfull": M.MAILBOX,
    "transient/messagetoolarge": M.CONTENT,
    "transient/contentrejected": M.CONTENT,
    "transient/attachmentrejected": M.CONTENT,
    "undetermined": M.PENDING,
}

# What each word of each provider means; one with a part less stands for all that are not named. Whatever is not here
# is of no consequence.
PROVIDERS: dict[str, dict[str, Meaning | tuple[Meaning]]] = {
    "amazon_ses": {
        "send": M.PENDING,
        "deliverydelay": M.PENDING,
        "delivery": M.DELIVERED,
        "reject": M.CONTENT,
        "rendering failure": M.UNCLEAR,
        **{f"bounce/{word}": meaning for word, meaning in _AMAZON.items()},
        # Feedback types: RFC 5965, 6430 and 6591.
        "complaint": M.COMPLAINT,
        "complaint/not-spam": M.NOTHING,
        "complaint/auth-failure": M.NOTHING,
        # The echo of an older complaint: this mail was not even tried.
        "complaint/onaccountsuppressionlist": M.LISTED,
    },
    # https://resend.com/docs/webhooks/event-types
    "resend": {
        "email.sent": M.PENDING,
        "email.delivery_delayed": M.PENDING,
        "email.delivered": M.DELIVERED,
        "email.complained": M.COMPLAINT,
        "email.failed": M.UNCLEAR,
        "email.suppressed": M.LISTED,
        "email.bounced": FOR_GOOD,
        **{f"email.bounced/{word}": meaning for word, meaning in _AMAZON.items()},
    },
    # https://documentation.mailgun.com/docs/mailgun/user-manual/events: any 5xx is "permanent".
    "mailgun": {
        "accepted": M.PENDING,
        "delivered": M.DELIVERED,
        "complained": M.COMPLAINT,
        "rejected": M.UNCLEAR,
        "failed": FAILED,
        "failed/temporary": M.PENDING,
        "failed/permanent/suppress-bounce": M.LISTED,
        "failed/permanent/suppress-complaint": M.LISTED,
        "failed/permanent/suppress-unsubscribe": M.LISTED,
        "failed/permanent/espblock": M.POLICY,
        "failed/permanent/old": M.SYSTEM,
    },
    # https://postmarkapp.com/developer/api/bounce-api#bounce-types
    "postmark": {
        "delivery": M.DELIVERED,
        "spamcomplaint": M.COMPLAINT,
        "bounce/spamcomplaint": M.COMPLAINT,
        "bounce/hardbounce": FOR_GOOD,
        "bounce/bademailaddress": M.NOBODY,
        "bounce/transient": M.PENDING,
        "bounce/dnserror": M.PENDING,
        "bounce/softbounce": M.PENDING,
        "bounce/openrelaytest": M.PENDING,
        # A filter's, and no person's.
        "bounce/spamnotification": M.CONTENT,
        "bounce/virusnotification": M.CONTENT,
        "bounce/blocked": M.POLICY,
        "bounce/dmarcpolicy": M.POLICY,
        "bounce/manuallydeactivated": M.LISTED,
        "bounce/unconfirmed": M.LISTED,
        "bounce/smtpapierror": M.UNCLEAR,
        "bounce/templaterenderingfailed": M.UNCLEAR,
        # What came of a bounce that is told besides, with its reason.
        "subscriptionchange/hardbounce": M.LISTED,
        "subscriptionchange/spamcomplaint": M.COMPLAINT,
    },
    # https://developers.brevo.com/docs/transactional-webhooks
    "brevo": {
        "request": M.PENDING,
        "deferred": M.PENDING,
        "soft_bounce": M.PENDING,
        "delivered": M.DELIVERED,
        "hard_bounce": FOR_GOOD,
        "invalid_email": M.NOBODY,
        "blocked": M.LISTED,
        "spam": M.COMPLAINT,
        "complaint": M.COMPLAINT,
        "error": M.UNCLEAR,
    },
}


def meaning_at(provider: str, word: str, reply: str) -> Meaning:
    """What `provider` means by `word` (parts of it after slashes) about a mail to which `reply` was said."""
    table, name = PROVIDERS[provider], word.casefold()
    while name and name not in table:
        name = name.rpartition("/")[0]
    found = table.get(name, M.NOTHING)
    if isinstance(found, Meaning):
        return found
    return meaning_of(reply) or found[0]
