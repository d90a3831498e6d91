"""Who gains and who loses what, in sentences with numbers, said before anything is saved (P3)."""

from collections.abc import Mapping, Sequence

from django.urls import reverse
from django.utils.formats import number_format
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from groups.models import Creator, Group, Membership
from groups.services.imports import Summary
from messaging.services import Outlook, Progress
from studio.queries import Begun, Joining, Numbers


def of_new_group(parent: Group | None) -> list[str]:
    """A new group is empty, so nobody gains anything yet; what its members will is what matters."""
    if parent is None:
        return [
            _("Nobody gains anything yet: a new group starts empty."),
            _("Whoever you add receives every release to it and to any sub group you give it."),
        ]
    return [
        _("Nobody gains anything yet: a new sub group starts empty."),
        _(
            "Whoever you add receives every release to %(group)s and to this sub group, and none to its other sub groups."
        )
        % {"group": parent.name},
        _("Everyone who is in %(group)s itself receives what you share with this sub group, too.")
        % {"group": parent.name},
    ]


def of_renaming() -> list[str]:
    return [
        _("Nobody gains or loses anything."),
        _("What was given already keeps the name it came under; the next mail uses the new one."),
    ]


def of_archiving(group: Group, *, people: int) -> list[str]:
    sentences = [
        ngettext(
            "%(count)s person's membership ends now.", "The memberships of %(count)s people end now.", people
        )
        % {"count": number_format(people, use_l10n=True, force_grouping=True)},
        _("They receive no further releases through it. Nothing they were given is taken away."),
    ]
    if group.parent_id is None:
        sentences.append(_("Its sub groups are archived with it."))
    return [*sentences, _("An archived group cannot be opened again.")]


def of_joining(person: str, joining: Joining) -> list[str]:
    """“Adding Ana to All tiers gives her 3 bundles now, and every release to any tier from here on.”"""
    if joining.there_already:
        return [
            _("%(person)s is in %(group)s already; nothing would change.")
            % {"person": person, "group": joining.group}
        ]
    if joining.bundles:
        now = ngettext(
            "Adding %(person)s to %(group)s gives them %(count)s bundle now, from a release that also goes to whoever joins later.",
            "Adding %(person)s to %(group)s gives them %(count)s bundles now, from releases that also go to whoever joins later.",
            joining.bundles,
        )
    else:
        now = _("Adding %(person)s to %(group)s gives them nothing at once.")
    sentences = [now % {"person": person, "group": joining.group, "count": joining.bundles}]
    sentences.append(
        _("From here on they receive every release to %(groups)s.") % {"groups": _either(joining.hears_from)}
    )
    if joining.leaving:
        sentences.append(
            _(
                "They leave %(groups)s, as a person has one place in a group. Nothing they were given is taken away."
            )
            % {"groups": _either(joining.leaving)}
        )
    return sentences


def of_leaving(membership: Membership, *, hears_from: Sequence[Group], bundles: int) -> list[str]:
    kept = ngettext(
        "The %(count)s bundle they were given stays theirs.",
        "The %(count)s bundles they were given stay theirs.",
        bundles,
    )
    return [
        _("%(person)s receives no further releases to %(groups)s.")
        % {"person": membership.contact, "groups": _either(hears_from)},
        kept % {"count": bundles}
        if bundles
        else _("They were not given anything yet, so nothing is lost but what is to come."),
        _("The time they were a member stays on record."),
    ]


def _either(groups: Sequence[Group]) -> str:
    return get_text_list([str(group) for group in groups], _("or"))


def of_importing(gains: Sequence[Joining]) -> list[str]:
    """For each group that people join: how many, and what each of them gains."""
    sentences = []
    for joining in gains:
        who = ngettext(
            "%(people)s person joins %(group)s", "%(people)s people join %(group)s", joining.people
        )
        if joining.bundles:
            what = ngettext(
                "each is given %(bundles)s bundle at once, and every release to %(groups)s from here on.",
                "each is given %(bundles)s bundles at once, and every release to %(groups)s from here on.",
                joining.bundles,
            )
        else:
            what = _("each receives every release to %(groups)s from here on, and nothing at once.")
        values = {
            "people": joining.people,
            "group": joining.group,
            "bundles": joining.bundles,
            "groups": _either(joining.hears_from),
        }
        sentences.append(f"{who}: {what}" % values)
    return sentences or [_("Nobody joins a group by this list, so nobody gains anything.")]


# Where somebody goes whose row has a tier, by the kind of the group.
OF_TIERS = {
    Group.Kind.PATRONS: gettext_lazy(
        "A patron goes into the group of their tier, and nowhere else: there they receive what you share with that tier and with the main group."
    ),
    Group.Kind.TRIBERS: gettext_lazy(
        "A triber goes into the group of their tier, and nowhere else: there they receive what you share with that tier and with the main group."
    ),
    Group.Kind.PIONEERS: gettext_lazy(
        "A pioneer goes into the group of their tier, and nowhere else: there they receive what you share with that tier and with the main group."
    ),
    Group.Kind.BACKERS: gettext_lazy(
        "A backer goes into the group of their reward, and nowhere else: there they receive what you share with that reward and with the main group."
    ),
    Group.Kind.OTHER: gettext_lazy(
        "A person goes into the group of their tier, and nowhere else: there they receive what you share with that tier and with the main group."
    ),
}


PART_NAMES = {
    "new": gettext_lazy("New"),
    "changed": gettext_lazy("Changed"),
    "moved": gettext_lazy("Tier moved"),
    "returned": gettext_lazy("Back again"),
    "gone": gettext_lazy("Gone"),
    "unmapped": gettext_lazy("Tier without a group"),
    "bad": gettext_lazy("Problems"),
    "duplicate": gettext_lazy("Listed twice"),
    "skipped": gettext_lazy("Not members"),
    "unchanged": gettext_lazy("Unchanged"),
}


def of_import_parts(parts: Mapping[str, int], current: str) -> list[dict[str, object]]:
    """The tabs of a dry run."""
    return [
        {"label": PART_NAMES[part], "href": f"?part={part}", "current": part == current, "count": count}
        for part, count in parts.items()
    ]


def of_result(summary: Summary) -> str:
    """What an applied import did, in numbers; what did not happen is not listed."""
    verdicts = summary.verdicts
    done = [
        (verdicts["new"], _("%(count)s joined")),
        (verdicts["returned"], _("%(count)s came back")),
        (verdicts["moved"], _("%(count)s moved to another group")),
        (verdicts["changed"], _("%(count)s changed")),
        (summary.ended, _("%(count)s ended")),
        (verdicts["unchanged"], _("%(count)s stayed as they were")),
    ]
    said = [words % {"count": number_format(count, force_grouping=True)} for count, words in done if count]
    return f"{get_text_list(said, _('and'))}." if said else _("Nothing had to be changed.")


def of_opted_out(summary: Summary) -> str:
    """Whom the file says to want no mail; empty if it says so of nobody."""
    if not summary.opted_out:
        return ""
    return ngettext(
        "%(count)s person of this list wants no mail, as the list says. They become a member, are given the files, and are "
        "not written to, unless they ask for mail here themselves.",
        "%(count)s people of this list want no mail, as the list says. They become members, are given the files, and are "
        "not written to, unless they ask for mail here themselves.",
        summary.opted_out,
    ) % {"count": number_format(summary.opted_out, force_grouping=True)}


# What each part of the check is called in its address, and the reason its people carry.
REASONS_OF_CHECK = {
    "mailed": "",
    "digest_cap": "cap",
    "digest_weekly": "weekly",
    "suppressed": "suppressed",
    "no_mail": "no_mail",
    "holds_all": "holds_all",
}
PARTS_OF_CHECK = {
    "mailed": gettext_lazy("get it and a mail"),
    "digest_cap": gettext_lazy(
        "get it and are told in the digest, as they have had as many mails as anybody gets in 7 days"
    ),
    "digest_weekly": gettext_lazy("get it and are told in the weekly digest, as they asked for"),
    "suppressed": gettext_lazy("get it; mail to their address has been stopped, so they are not written to"),
    "no_mail": gettext_lazy("get it; they asked you for no mail"),
    "holds_all": gettext_lazy("hold all of it already, so they are not written to"),
}


def of_check(found: Outlook) -> list[dict[str, object]]:
    """The parts of the audience that hold anybody, with what happens to them."""
    sizes = {part: getattr(found, part) for part in PARTS_OF_CHECK}
    return [
        {"part": part, "count": sizes[part], "words": words}
        for part, words in PARTS_OF_CHECK.items()
        if sizes[part]
    ]


def of_steps(*, bundles: bool, groups: bool, subject: bool) -> list[dict[str, object]]:
    """The steps of a new release: what is done, and where one is."""
    steps = [
        ("what", _("Bundles"), bundles),
        ("whom", _("Audience"), groups),
        ("words", _("Message"), subject),
        ("check", _("Check and send"), False),
    ]
    current = next(name for name, _label, done in steps if not done)
    return [
        {
            "label": label,
            "href": f"#{name}",
            "state": "done" if done else "current" if name == current else "",
        }
        for name, label, done in steps
    ]


STATES_OF_PEOPLE = {
    "": gettext_lazy("Everybody"),
    "library": gettext_lazy("In their library"),
    "waiting": gettext_lazy("Not redeemed yet"),
    "redeemed": gettext_lazy("Redeemed"),
    "downloaded": gettext_lazy("Downloaded"),
    "accepted": gettext_lazy("Mailed"),
    "delivered": gettext_lazy("Mail delivered"),
    "bounced": gettext_lazy("Mail came back"),
    "complained": gettext_lazy("Reported as spam"),
    "failed": gettext_lazy("Mail refused"),
    "unknown": gettext_lazy("Mail in doubt"),
    "suppressed": gettext_lazy("Not written to: address stopped"),
    "skipped": gettext_lazy("Not written to"),
    "held": gettext_lazy("Waiting for the digest"),
    "cancelled": gettext_lazy("Mail taken back"),
    "revoked": gettext_lazy("Files taken back"),
}
STAGES = {
    "draft": gettext_lazy("Published without a mail"),
    "scheduled": gettext_lazy("Scheduled"),
    "giving": gettext_lazy("Putting it into libraries"),
    "preparing": gettext_lazy("Getting the mail ready"),
    "waiting": gettext_lazy("The mail waits"),
    "shut": gettext_lazy("The mail rests"),
    "paused": gettext_lazy("Paused"),
    "sending": gettext_lazy("Sending"),
    "done": gettext_lazy("Sent"),
    "cancelled": gettext_lazy("Cancelled"),
}


def of_funnel(numbers: Numbers, people: str) -> list[dict[str, object]]:
    """A release's people, stage by stage; each stage leads to them on the page `people`."""
    stages = [
        (_("Entitled"), numbers.entitled, ""),
        (_("In a library at once"), numbers.at_once, "library"),
        (_("Mailed"), numbers.mailed, "accepted"),
        (_("Delivered"), numbers.delivered, "delivered"),
        (_("Redeemed"), numbers.redeemed, "redeemed"),
        (_("Downloaded"), numbers.downloaded, "downloaded"),
    ]
    if not numbers.delivered:
        # Nobody tells us, as over plain SMTP: no row says "0 delivered".
        stages = [stage for stage in stages if stage[2] != "delivered"]
    return [
        {"label": label, "count": count, "href": f"{people}?state={state}"} for label, count, state in stages
    ]


def of_speed(progress: Progress) -> str:
    """How fast a message goes out, and for how much longer."""
    if progress.rate is None or progress.time_left is None:
        return ""
    minutes = -(-progress.time_left.seconds // 60) + progress.time_left.days * 24 * 60
    left = ngettext("about %(minutes)s minute left", "about %(minutes)s minutes left", minutes)
    return _("%(rate)s a minute, %(left)s") % {
        "rate": number_format(round(progress.rate), force_grouping=True),
        "left": left % {"minutes": minutes},
    }


def of_first_steps(begun: Begun, creator: Creator) -> list[dict[str, object]]:
    """The checklist of somebody new; empty once everything on it is done."""
    if begun.complete:
        return []
    steps = [
        (
            _("Make a group"),
            begun.groups,
            "create_group",
            _("Your patrons, say, with a sub group for each tier."),
        ),
        (
            _("Bring its members"),
            begun.members,
            "groups",
            _("With an export from the platform they support you on, or a pasted list."),
        ),
        (_("Fill a bundle"), begun.bundles, "bundles", _("Drop the files they are to have.")),
        (_("Release it"), begun.releases, "releases", _("You see who gets what before anything goes out.")),
    ]
    current = next(label for label, done, _page, _help in steps if not done)
    return [
        {
            "label": label,
            "state": "done" if done else "current" if label == current else "",
            "href": "" if done else reverse(f"studio:{page}", args=[creator.slug]),
            "help": "" if done else help_text,
        }
        for label, done, page, help_text in steps
    ]
