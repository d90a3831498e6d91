"""What stopping, taking back and sending again come to: in sentences with numbers, said before anything is pressed."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from messaging.models import Message
from messaging.services import Outlook, Progress
from studio.queries import Reached


def counted(number: int) -> str:
    return number_format(number, force_grouping=True)


def told(progress: Progress) -> int:
    """How many mails have left us."""
    return progress.offered


def untold(progress: Progress) -> int:
    """How many wait: to be sent, or for the digest."""
    return progress.total - progress.finished + progress.counts.get("held", 0)


def of_pausing(message: Message, progress: Progress) -> str:
    """What pausing or resuming comes to; empty where neither can be done."""
    state = Message.State
    if message.state not in {state.CONFIRMED, state.RUNNING, state.PAUSED} or not progress.total:
        return ""
    values = {"told": counted(told(progress)), "left": counted(progress.total - progress.finished)}
    if message.state == state.PAUSED:
        return _("%(told)s were written to; %(left)s wait until you resume.") % values
    return (
        _(
            "%(told)s were written to, %(left)s were not yet. Pausing stops within the mails being handed over; the files"
            " stay given."
        )
        % values
    )


def of_cancelling(progress: Progress, *, granted: int) -> list[str]:
    """What is lost by cancelling a message."""
    done, left = told(progress), untold(progress)
    if not progress.total:
        return [
            _("Nobody was written to yet, and nobody will be."),
            _("The files stay given: people find them in their library, without a mail."),
        ]
    return [
        ngettext(
            "%(count)s person was written to already; that cannot be undone.",
            "%(count)s people were written to already; that cannot be undone.",
            done,
        )
        % {"count": counted(done)},
        ngettext("%(count)s person will not be.", "%(count)s people will not be.", left)
        % {"count": counted(left)},
        ngettext(
            "The files stay given: %(count)s person finds them in the library or by signing in.",
            "The files stay given: %(count)s people find them in their libraries or by signing in.",
            granted,
        )
        % {"count": counted(granted)},
        _("A cancelled message cannot go on. To stop for a while, pause it instead."),
    ]


def of_recalling(reached: Reached, *, untold: int) -> list[str]:
    """What is lost by recalling a release."""
    sentences = [
        ngettext(
            "%(count)s person has it in the library and loses it there.",
            "%(count)s people have it in their libraries and lose it there.",
            reached.holding,
        )
        % {"count": counted(reached.holding)},
    ]
    if reached.waiting:
        sentences.append(
            ngettext(
                "%(count)s person has not redeemed it and cannot any more; the link says that you took it back.",
                "%(count)s people have not redeemed it and cannot any more; their links say that you took it back.",
                reached.waiting,
            )
            % {"count": counted(reached.waiting)}
        )
    if reached.downloaded:
        sentences.append(
            ngettext(
                "%(count)s person has downloaded from it: what is on their computer stays there.",
                "%(count)s people have downloaded from it: what is on their computers stays there.",
                reached.downloaded,
            )
            % {"count": counted(reached.downloaded)}
        )
    if untold:
        sentences.append(
            ngettext(
                "%(count)s person was not written to yet and will not be.",
                "%(count)s people were not written to yet and will not be.",
                untold,
            )
            % {"count": counted(untold)}
        )
    sentences.append(_("It cannot be undone. To give the files again you make a new release of them."))
    return sentences


def of_arrival(counts: Mapping[str, int]) -> str:
    """What is known of the mails that were accepted: accepted is not delivered."""
    accepted, delivered = counts.get("accepted", 0), counts.get("delivered", 0)
    if delivered and accepted:
        return ngettext(
            "Of %(count)s more we know that the mail system accepted it; whether it arrived is not reported yet.",
            "Of %(count)s more we know that the mail system accepted them; whether they arrived is not reported yet.",
            accepted,
        ) % {"count": counted(accepted)}
    if accepted and (counts.get("bounced", 0) or counts.get("complained", 0)):
        return _(
            "Mailed means that the mail system accepted it. Accepted is not delivered; what came back is counted below."
        )
    if accepted:
        return _(
            "Mailed means that the mail system accepted it. Accepted is not delivered: whether it arrived is not seen here."
        )
    return ""


@dataclass(frozen=True)
class Lost:
    """A way in which a mail does not reach somebody: what it is called, what it means, what can be done."""

    label: str | Promise
    words: str | Promise
    resend: bool = False
    readdress: bool = False


# By the deliveries' states, the most urgent first.
UNDELIVERED: dict[str, Lost] = {
    "unknown": Lost(
        gettext_lazy("In doubt"),
        gettext_lazy(
            "These mails were being handed over when the connection or the worker was lost: they may or may not have"
            " arrived. They are not sent again by themselves, so that nobody gets a mail twice. The files are there in"
            " any case."
        ),
        resend=True,
        readdress=True,
    ),
    "failed": Lost(
        gettext_lazy("Refused"),
        gettext_lazy(
            "The mail system did not take these. If the reason was on its side, send them again; if it was the address,"
            " change it."
        ),
        resend=True,
        readdress=True,
    ),
    "bounced": Lost(
        gettext_lazy("Came back"),
        gettext_lazy(
            "These were accepted and came back for good. Nothing more is sent to such an address: ask for another one and"
            " change it here, then the mail goes there."
        ),
        readdress=True,
    ),
    "suppressed": Lost(
        gettext_lazy("Address stopped"),
        gettext_lazy(
            "Mail to these addresses came back before, or their owners reported it. They are not written to, by anybody"
            " here. Another address changes that."
        ),
        readdress=True,
    ),
    "complained": Lost(
        gettext_lazy("Reported as spam"),
        gettext_lazy(
            "These people reported the mail as spam. They are not written to any more; the files stay theirs."
        ),
    ),
    "held": Lost(
        gettext_lazy("Waiting for the digest"),
        gettext_lazy(
            "These people have the files. They are told in the digest: they asked for one mail a week, or have had as"
            " many mails as anybody gets in 7 days."
        ),
    ),
    "skipped": Lost(
        gettext_lazy("Not written to"),
        gettext_lazy("These people have the files and need no mail, or get none, for the reason given."),
    ),
    "cancelled": Lost(
        gettext_lazy("Taken back"),
        gettext_lazy("The message was cancelled before these were sent. The files stay given."),
    ),
}


def of_undelivered(counts: Mapping[str, int]) -> list[dict[str, object]]:
    """The deliveries that reached nobody, by what became of them."""
    return [
        {"state": state, "count": counts[state], "label": lost.label}
        for state, lost in UNDELIVERED.items()
        if counts.get(state)
    ]


# By the parts of a check: who of those to be reminded hears of it.
PARTS_OF_REMINDER = {
    "mailed": gettext_lazy("get the reminder"),
    "digest_cap": gettext_lazy(
        "are told in the digest, as they have had as many mails as anybody gets in 7 days"
    ),
    "digest_weekly": gettext_lazy("are told in the weekly digest, as they asked for"),
    "suppressed": gettext_lazy("are not written to: mail to their address has been stopped"),
    "no_mail": gettext_lazy("are not written to: they asked you for no mail"),
    "holds_all": gettext_lazy("are not written to: they hold all of it already"),
}


def of_reminding(found: Outlook) -> list[dict[str, object]]:
    """The parts of those to be reminded that hold anybody, with what happens to them."""
    sizes = {part: getattr(found, part) for part in PARTS_OF_REMINDER}
    return [
        {"count": sizes[part], "words": words} for part, words in PARTS_OF_REMINDER.items() if sizes[part]
    ]


def of_resent(number: int) -> str:
    return ngettext(
        "%(count)s mail goes out again within a minute.",
        "%(count)s mails go out again within a minute.",
        number,
    ) % {"count": counted(number)}
