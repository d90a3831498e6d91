"""What is true of a run, by the mail system's own log and plain SQL. It imports nothing of the application.

Two looks: when the messages are done (`in_doubt`), and when all doubt is settled (`judge`).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.addresses import REFUSED, treated

# How long after an act came back a mail may still be on its way: one that was being handed over.
ON_ITS_WAY = 2.5
FINAL = {
    "accepted",
    "delivered",
    "bounced",
    "complained",
    "failed",
    "unknown",
    "suppressed",
    "skipped",
    "cancelled",
    "held",
}
Rows = Callable[..., list[tuple[Any, ...]]]


@dataclass
class Ledger:
    """What was done to the run from outside, and when: the rig writes it down, the judge compares."""

    messages: list[int] = field(default_factory=list)
    # Addresses that were not to be written to any more from that moment on, and why.
    unwilling: list[tuple[str, float, str]] = field(default_factory=list)
    # From when to when nothing was to be sent.
    pauses: list[tuple[float, float]] = field(default_factory=list)
    # Messages that were cancelled, and when.
    cancelled: dict[int, float] = field(default_factory=dict)
    # Whose provider said that it arrived; of whom somebody else said that they complained.
    delivered: set[str] = field(default_factory=set)
    forged: set[str] = field(default_factory=set)
    # How many mails in doubt the faults allow in all: a connection each of the workers they hit.
    doubts: int = 0
    # How many of the members were dealt with before: suppressed, asked for no mail, hold everything.
    before: dict[str, int] = field(default_factory=dict)
    # At most so many mails an address may get, over all messages (M4); 0: one a message is the limit.
    cap: int = 0
    version: int = 0


@dataclass
class Figures:
    """All of them are 0 in a run that holds, but for the first four."""

    recipients: int = 0
    mails: int = 0
    unknown: int = 0
    unknown_allowed: int = 0
    lost_grants: int = 0
    double_grants: int = 0
    strange_grants: int = 0
    double_mails: int = 0
    # Called accepted, and never taken; willing, and left without a mail or a reason.
    lost_mails: int = 0
    # Not in a named state at the end, or taken and not called so, or not in the chunks' counts.
    unaccounted: int = 0
    unknown_left: int = 0
    unwilling_mailed: int = 0
    mailed_while_paused: int = 0
    slots_wrong: int = 0
    over_the_cap: int = 0
    wrong_versions: int = 0
    events_wrong: int = 0
    why: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.why and self.unknown <= self.unknown_allowed

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def in_doubt(rows: Rows) -> int:
    return int(rows("SELECT count(*) FROM messaging_delivery WHERE state = 'unknown'")[0][0])


def judge(rows: Rows, mails: Iterable[dict[str, Any]], ledger: Ledger, *, unknown_before: int) -> Figures:
    """The figures of a run that has settled. `mails`: what the mail system took, as it wrote it down."""
    found = Figures(unknown=unknown_before, unknown_allowed=ledger.doubts)
    taken = list(mails)
    found.mails = len(taken)
    of_request = {
        str(request).replace("-", ""): message
        for message, request in rows(
            "SELECT id, request_id FROM messaging_message WHERE request_id IS NOT NULL"
        )
    }
    _grants(rows, ledger, found)
    got: dict[int, Counter[str]] = {message: Counter() for message in ledger.messages}
    for mail in taken:
        message = of_request.get(mail["message_id"].partition(".")[2].partition("@")[0])
        if message is not None:
            # A digest is not in the ledger; all that is asked of it is that it comes once.
            got.setdefault(message, Counter())[mail["to"]] += 1
            if mail["at"] > ledger.cancelled.get(message, float("inf")) + ON_ITS_WAY:
                _note(
                    found, "unwilling_mailed", f"{mail['to']} was written to after the message was cancelled"
                )
        else:
            _note(found, "unaccounted", f"a mail to {mail['to']} of no message of ours: {mail['message_id']}")
    found.double_mails = sum(
        number - 1 for of_message in got.values() for number in of_message.values() if number > 1
    )
    for message in ledger.messages:
        _message(rows, message, got[message], ledger, found)
    _unwilling(taken, ledger, found)
    _paused(rows, taken, ledger, found)
    said = dict(
        rows("SELECT address_key, state FROM messaging_delivery WHERE state IN ('delivered', 'complained')")
    )
    found.events_wrong = len(
        {address for address, state in said.items() if state == "delivered"} ^ ledger.delivered
    )
    found.events_wrong += sum(state == "complained" for state in said.values())
    silenced = rows(
        "SELECT address_key FROM accounts_suppression WHERE address_key = ANY(%s)", list(ledger.forged)
    )
    bounced = {address for address, _at, why in ledger.unwilling if why == "bounced"}
    found.events_wrong += len({address for (address,) in silenced} - bounced)
    if ledger.cap:
        of_address = Counter(mail["to"] for mail in taken)
        found.over_the_cap = sum(number > ledger.cap for number in of_address.values())
    for name in (
        "lost_grants",
        "double_grants",
        "strange_grants",
        "double_mails",
        "lost_mails",
        "unaccounted",
        "unknown_left",
        "unwilling_mailed",
        "mailed_while_paused",
        "slots_wrong",
        "over_the_cap",
        "wrong_versions",
        "events_wrong",
    ):
        if getattr(found, name) and not any(name in why for why in found.why):
            found.why.append(f"{name}: {getattr(found, name)}")
    return found


def _note(found: Figures, name: str, what: str, number: int = 1) -> None:
    setattr(found, name, getattr(found, name) + number)
    if sum(why.startswith(name) for why in found.why) < 3:
        found.why.append(f"{name}: {what}")


def _grants(rows: Rows, ledger: Ledger, found: Figures) -> None:
    """Everyone who belonged at the due moment has one grant of each release, and nobody else has."""
    for message in ledger.messages:
        [(release, as_of)] = rows(
            """SELECT release.id, release.as_of FROM messaging_message message
            JOIN distribution_release release ON release.id = message.release_id WHERE message.id = %s""",
            message,
        )
        [(entitled, lost, double)] = rows(
            """SELECT count(*), count(*) FILTER (WHERE given = 0), coalesce(sum(given - 1) FILTER (WHERE given > 1), 0)
            FROM (
                SELECT member.contact_id, count(DISTINCT given.id) AS given FROM groups_membership member
                LEFT JOIN distribution_grant given
                    ON given.contact_id = member.contact_id AND given.release_id = %s
                WHERE member.started_at <= %s AND (member.ended_at IS NULL OR member.ended_at > %s)
                GROUP BY member.contact_id
            ) people""",
            release,
            as_of,
            as_of,
        )
        [(given,)] = rows("SELECT count(*) FROM distribution_grant WHERE release_id = %s", release)
        found.recipients += entitled
        found.lost_grants += lost
        found.double_grants += int(double)
        found.strange_grants += abs(given - int(double) - (entitled - lost))
        # Whoever is known holds what was pinned, once.
        [(held, wrong, known)] = rows(
            """SELECT count(*), count(*) FILTER (WHERE version_id NOT IN (
                    SELECT version_id FROM distribution_releaseitem WHERE release_id = %s)),
                (SELECT count(*) FROM distribution_grant given JOIN groups_contact contact
                 ON contact.id = given.contact_id WHERE given.release_id = %s AND contact.account_id IS NOT NULL)
            FROM library_holding WHERE origin_key = %s""",
            release,
            release,
            f"release:{release}",
        )
        found.wrong_versions += wrong
        if held != known:
            _note(found, "lost_grants", f"{known} accounts were given release {release}, {held} hold it", 0)
    if ledger.version:
        [(pinned,)] = rows("SELECT min(version_id) FROM distribution_releaseitem")
        found.wrong_versions += int(pinned != ledger.version)


def _message(rows: Rows, message: int, got: Counter[str], ledger: Ledger, found: Figures) -> None:
    of_address: dict[str, str] = {}
    reasons: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for address, state, reason in rows(
        "SELECT address_key, state, reason FROM messaging_delivery WHERE message_id = %s", message
    ):
        of_address[address] = state
        states[state] += 1
        reasons[reason] += 1
    [(granted,)] = rows(
        """SELECT count(*) FROM distribution_grant given JOIN messaging_message message
        ON message.release_id = given.release_id WHERE message.id = %s""",
        message,
    )
    if sum(states.values()) != granted:
        _note(found, "unaccounted", f"{granted} granted, {sum(states.values())} planned")
    for state, number in states.items():
        if state not in FINAL:
            _note(found, "unaccounted", f"{number} deliveries left {state}", number)
    found.unknown_left += states["unknown"]
    _compare(of_address, got, ledger, found)
    tallies: Counter[str] = Counter()
    for (tally,) in rows("SELECT tally FROM messaging_chunk WHERE message_id = %s", message):
        tallies.update(tally)
    if +tallies != +states:
        _note(found, "unaccounted", f"the chunks count {dict(tallies)}, the table {dict(states)}")
    for reason, number in ledger.before.items():
        if message == ledger.messages[0] and reasons[reason] < number:
            _note(found, "unaccounted", f"{reasons[reason]} of {number} for the reason {reason}")
    [(slots,)] = rows(
        "SELECT count(*) FROM messaging_sendslot WHERE message_id = %s AND released_at IS NULL", message
    )
    found.slots_wrong += abs(slots - 1)


def _compare(of_address: dict[str, str], got: Counter[str], ledger: Ledger, found: Figures) -> None:
    """What the table says of each address, and what the log says."""
    told = {"accepted", "delivered", "bounced", "complained"}
    unwilling = {address for address, _at, _why in ledger.unwilling}
    for address, state in of_address.items():
        mailed = got[address]
        if state in told and not mailed:
            _note(found, "lost_mails", f"{address} is called {state}, and nothing was taken for it")
        elif mailed and state not in told and state != "unknown":
            _note(found, "unaccounted", f"a mail for {address} was taken, it is called {state}")
        elif state == "failed" and treated(address) not in REFUSED:
            _note(found, "lost_mails", f"{address} is called failed, and its mail system refused nothing")
        elif state in {"skipped", "cancelled"} and address in unwilling:
            continue
    strangers = set(got) - set(of_address)
    if strangers:
        _note(found, "unaccounted", f"mail to {sorted(strangers)[:3]}, who were not planned", len(strangers))


def _unwilling(taken: list[dict[str, Any]], ledger: Ledger, found: Figures) -> None:
    since = {address: (at, why) for address, at, why in ledger.unwilling}
    for mail in taken:
        at, why = since.get(mail["to"], (float("inf"), ""))
        if mail["at"] > at + ON_ITS_WAY:
            _note(
                found,
                "unwilling_mailed",
                f"{mail['to']} ({why}) was written to {mail['at'] - at:.1f} s later",
            )


def _paused(rows: Rows, taken: list[dict[str, Any]], ledger: Ledger, found: Figures) -> None:
    """Mails of a pause. What was being handed over when it began may come late: it stood in the table before."""
    for begun, ended in ledger.pauses:
        late = {
            int(mail["message_id"].strip("<").partition(".")[0]): mail
            for mail in taken
            if begun + ON_ITS_WAY < mail["at"] < ended
        }
        for delivery, seconds in rows(
            """SELECT id, extract(epoch FROM offered_at)::float - %s FROM messaging_delivery
            WHERE id = ANY(%s) AND offered_at > to_timestamp(%s)""",
            begun,
            list(late),
            begun,
        ):
            to = late[delivery]["to"]
            _note(found, "mailed_while_paused", f"{to}, begun {seconds:.1f} s after the pause")
