"""What a relay's log proves of our mails, and what it does not."""

import json

import pytest

from messaging import relay_log
from messaging.relay_log import Fate, Seen, read

KEY = "0123456789abcdef0123456789abcdef"
US = "mail@forge.example"
AT = "Nov 21 06:00:01 relay"
ISO = "2026-11-21T06:00:01.123456+00:00 relay"


def cleanup(name: str, number: int, at: str = AT, service: str = "postfix") -> str:
    return f"{at} {service}/cleanup[12]: {name}: message-id=<{number}.{KEY}@forge.example>"


def active(name: str, at: str = AT, service: str = "postfix", sender: str = US) -> str:
    return f"{at} {service}/qmgr[9]: {name}: from=<{sender}>, size=900, nrcpt=1 (queue active)"


def status(name: str, what: str, dsn: str = "2.0.0", said: str = "(250 ok)") -> str:
    return (
        f"{AT} postfix/smtp[77]: {name}: to=<a@example.net>, relay=mx.example.net[192.0.2.1]:25, delay=1.1, "
        f"delays=0.1/0/0.5/0.5, dsn={dsn}, status={what} {said}"
    )


def fates(*lines: str) -> list[tuple[int, Fate]]:
    return [(seen.delivery, seen.fate) for seen in read(lines, sender=US)]


def test_a_message_id_alone_proves_nothing_and_the_queue_manager_proves_it() -> None:
    assert fates(cleanup("4ABCD12345", 7)) == [(7, Fate.BEGUN)]
    assert fates(cleanup("4ABCD12345", 7), active("4ABCD12345")) == [(7, Fate.BEGUN), (7, Fate.TAKEN)]


@pytest.mark.parametrize("at", [AT, ISO, f"<22>{AT}", f"mail-1  | {AT}"])
@pytest.mark.parametrize("service", ["postfix", "postfix-out", "postfix/relay"])
@pytest.mark.parametrize("name", ["4ABCD12345", "4ZfLk81xv6z9sB"])
def test_postfix_is_known_by_any_name_and_date(at: str, service: str, name: str) -> None:
    assert fates(cleanup(name, 7, at, service), active(name, at, service))[-1] == (7, Fate.TAKEN)


@pytest.mark.parametrize(
    ("what", "dsn", "fate"),
    [("sent", "2.0.0", Fate.TAKEN), ("deferred", "4.4.1", Fate.TAKEN), ("bounced", "5.1.1", Fate.BOUNCED)],
)
def test_what_became_of_a_delivery_proves_that_it_was_taken(what: str, dsn: str, fate: Fate) -> None:
    said = "(host mx.example.net said: 550 5.1.1 User unknown)"
    lines = [cleanup("4ABCD12345", 7), active("4ABCD12345"), status("4ABCD12345", what, dsn, said)]
    seen = list(read(lines, sender="Mail@Forge.example"))[-1]
    assert seen == Seen(7, KEY, fate, f"{dsn} {said}" if fate == Fate.BOUNCED else "")


def test_a_name_that_comes_again_is_another_mail() -> None:
    lines = [
        cleanup("4ABCD12345", 7),
        f"{AT} postfix/cleanup[12]: 4ABCD12345: message-id=<other@elsewhere.example>",
        active("4ABCD12345"),
    ]
    assert fates(*lines) == [(7, Fate.BEGUN)]


def test_a_mail_that_is_removed_is_forgotten() -> None:
    removed = f"{AT} postfix/qmgr[9]: 4ABCD12345: removed"
    assert fates(cleanup("4ABCD12345", 7), active("4ABCD12345"), removed, active("4ABCD12345")) == [
        (7, Fate.BEGUN),
        (7, Fate.TAKEN),
    ]


def test_of_too_many_in_a_queue_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_log, "QUEUED", 2)
    names = ["4AAAAAAAAA", "4BBBBBBBBB", "4CCCCCCCCC"]
    lines = [cleanup(name, number) for number, name in enumerate(names, 1)]
    assert fates(*lines, *(active(name) for name in names))[3:] == [(2, Fate.TAKEN), (3, Fate.TAKEN)]


def test_exim_and_json_say_that_a_mail_was_taken() -> None:
    exim = f"2026-11-21 06:00:01 1abcDE-000123-4F <= mail@forge.example H=app S=900 id=7.{KEY}@forge.example"
    told = {"at": 1.5, "from": US, "to": "a@example.net", "message_id": f"<8.{KEY}@forge.example>"}
    line = json.dumps(told)
    found = fates(exim, f"Nov 21 06:00:01 relay exim[12]: {exim}", line, f"app: {line}")
    assert found == [(7, Fate.TAKEN), (7, Fate.TAKEN), (8, Fate.TAKEN), (8, Fate.TAKEN)]


@pytest.mark.parametrize(
    "sender", ["mia@elsewhere.example", "", "mail@forge.example.evil.example", "x@forge.example"]
)
def test_a_mail_of_somebody_else_under_our_name_proves_nothing(sender: str) -> None:
    lines = [cleanup("4ABCD12345", 7), active("4ABCD12345", sender=sender)]
    bounced = status("4ABCD12345", "bounced", "5.1.1", "(host said: 550 5.1.1 User unknown)")
    assert fates(*lines, bounced) == [(7, Fate.BEGUN), (7, Fate.NAMED), (7, Fate.NAMED)]
    exim = f"2026-11-21 06:00:01 1abcDE-000123-4F <= {sender or '<>'} H=app S=900 id=7.{KEY}@forge.example"
    assert fates(exim) == [(7, Fate.NAMED)]
    entry = {"message_id": f"<7.{KEY}@forge.example>", "status": "bounced"}
    assert fates(json.dumps({**entry, "sender": sender}), json.dumps(entry)) == [(7, Fate.NAMED)] * 2


def test_a_delivery_of_a_mail_whose_sender_nobody_said_proves_nothing() -> None:
    assert fates(cleanup("4ABCD12345", 7), status("4ABCD12345", "sent"))[-1] == (7, Fate.NAMED)


def test_words_that_a_log_repeats_are_not_the_logs_own() -> None:
    forged = [cleanup("4ABCD12345", 7), active("4ABCD12345")]
    login = "Nov 21 06:00:01 relay sshd[5]: Invalid user {} from 192.0.2.1 port 5"
    quoted = 'Nov 21 06:00:01 relay app: login failed for "{}"'
    arrival = f"1abcDE-000123-4F <= {US} id=7.{KEY}@forge.example"
    subject = f'2026-11-21 06:00:01 1abcDE-000124-4F <= evil@e.example H=app T="{arrival}" id=9@e.example'
    for line in (login, quoted):
        assert {fate for _pk, fate in fates(*(line.format(one) for one in [*forged, arrival]))} <= {
            Fate.NAMED
        }
    assert fates(subject) == [(7, Fate.NAMED)]


@pytest.mark.parametrize(
    ("entry", "fate"),
    [
        ({"status": "bounced"}, Fate.BOUNCED),
        ({"event": "rejected"}, Fate.NAMED),
        ({"level": "ERROR"}, Fate.NAMED),
        ({"status": "queued"}, Fate.TAKEN),
    ],
)
def test_json_may_say_the_opposite(entry: dict[str, str], fate: Fate) -> None:
    named = {"message_id": f"<7.{KEY}@forge.example>", "from": f"<{US}>"}
    assert fates(json.dumps({**named, **entry})) == [(7, fate)]


def test_json_that_bounced_says_why() -> None:
    entry = {"message_id": f"<7.{KEY}@forge.example>", "from": US, "status": "bounced", "dsn": "5.1.1"}
    [seen] = read([json.dumps({**entry, "response": "550 unknown"})], sender=US)
    assert (seen.fate, seen.said) == (Fate.BOUNCED, "5.1.1 550 unknown")


@pytest.mark.parametrize(
    "line",
    [
        f"something happened to <7.{KEY}@forge.example>",
        f'{{"note": "7.{KEY}@forge.example"}}',
        f'{{"message_id": "<7.{KEY}@forge.example>"',
        f'{{"message_id": "<7.{KEY}@forge.example>"' + "[" * 100_000,
        f'["7.{KEY}@forge.example", {{}}]',
    ],
)
def test_a_line_that_only_names_a_mail_proves_neither(line: str) -> None:
    assert fates(line) == [(7, Fate.NAMED)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "\x00\ufffd\ufffd",
        "x" * 1_000_000,
        "Nov 21 postfix/cleanup[12]: 4ABCD12345: message-id=<hello@example.net>",
        "Nov 21 postfix/cleanup[12]: 4ABCD12345: milter-reject: END-OF-MESSAGE",
        "Nov 21 postfix/qmgr[9]: 4ABCD12345: from=<>, size=1, nrcpt=1 (queue active)",
        f"id=0.{KEY}@forge.example",
        f"id=7.{KEY[:-1]}@forge.example",
        f"id=99999999999999999999.{KEY}@forge.example",
    ],
)
def test_what_is_not_about_our_mails_is_skipped(line: str) -> None:
    assert fates(line) == []


def test_what_a_known_mail_meets_besides_is_skipped() -> None:
    lines = [
        f"{AT} postfix/cleanup[12]: 4ABCD12345: milter-reject: END-OF-MESSAGE from app[192.0.2.9]: 5.7.1 no",
        f"{AT} postfix/qmgr[9]: 4ABCD12345: from=<mail@forge.example>, status=expired, returned to sender",
        f"{AT} postfix/smtp[77]: 4ABCD12345: host mx.example.net said: 450 later",
    ]
    assert fates(cleanup("4ABCD12345", 7), *lines) == [(7, Fate.BEGUN)]
