"""What each provider over HTTP is sent, and what its answers prove, against one in a process of its own."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings

from messaging.mail import Mail, Mailing, sample_recipient
from messaging.models import Message
from messaging.providers import Backend, Kind, NotOpen, SignInRefused, Smtp, provider
from messaging.providers.brevo import Brevo
from messaging.providers.http import Http, words_of
from messaging.providers.mailgun import Mailgun
from messaging.providers.postmark import Postmark
from messaging.providers.resend import Resend
from messaging.providers.ses import Ses
from tests.http_provider import HttpProvider

pytestmark = pytest.mark.django_db

SHARED = [Resend, Postmark]
ALONE = [Mailgun, Brevo]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpProvider]:
    with HttpProvider(tmp_path_factory.mktemp("outside")) as server:
        yield server


@pytest.fixture
def outside(server: HttpProvider, settings: LazySettings) -> HttpProvider:
    server.begin()
    settings.ANYMAIL = {
        "RESEND_API_KEY": "re_test",
        "RESEND_API_URL": server.url,
        "POSTMARK_SERVER_TOKEN": "token",
        "POSTMARK_API_URL": server.url,
        "MAILGUN_API_KEY": "key",
        "MAILGUN_API_URL": server.url,
        "MAILGUN_SENDER_DOMAIN": "forge.example",
        "BREVO_API_KEY": "key",
        "BREVO_API_URL": server.url,
    }
    settings.EMAIL_TIMEOUT = 0.7
    return server


@pytest.fixture
def nobody(outside: HttpProvider, settings: LazySettings) -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    settings.ANYMAIL = {
        name: url if name.endswith("_URL") else value for name, value in settings.ANYMAIL.items()
    }
    return url


@pytest.fixture
def mails(draft: Message, now: datetime) -> Callable[..., list[Mail]]:
    draft.request_id = uuid4()
    draft.save()

    def made(*addresses: str, attempt: int = 1) -> list[Mail]:
        mailing = Mailing(draft)
        sample = sample_recipient(None, group="Patrons", now=now)
        return [
            mailing.to(
                sample._replace(
                    address=address,
                    delivery=100 + number,
                    call=f"{100 + number}.{attempt}",
                    name="Zoë O'Neill",
                )
            )
            for number, address in enumerate(addresses)
        ]

    return made


def opened(kind: type[Http]) -> Http:
    way = kind()
    way.open()
    return way


@pytest.mark.parametrize("kind", [*SHARED, *ALONE])
def test_a_wave_is_taken_once_each_with_the_providers_name_for_it(
    kind: type[Http], outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    way = opened(kind)
    wave = mails("a@example.net", "b@example.net", "c@example.net")
    answers = way.offer(wave)
    assert [answer.kind for answer in answers] == [Kind.ACCEPTED] * 3
    taken = {mail["to"]: mail for mail in outside.mails()}
    assert [taken[mail.address]["id"] for mail in wave] == [answer.provider_id for answer in answers]
    assert [taken[mail.address]["message_id"] for mail in wave] == [
        mail.headers["Message-ID"] for mail in wave
    ]
    way.close()
    way.close()


@pytest.mark.parametrize("kind", [Postmark, Mailgun])
def test_a_provider_that_can_be_asked_finds_what_it_took_and_nothing_else(
    kind: type[Postmark | Mailgun], outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    wave = mails("a@example.net", "b@example.net")
    way = kind()
    way.open()
    way.offer(wave[:1])
    ids = [mail.headers["Message-ID"] for mail in wave]
    found = way.find(ids)
    assert list(found) == ids[:1]
    assert found[ids[0]].kind == Kind.ACCEPTED
    assert found[ids[0]].provider_id


@pytest.mark.parametrize(
    "stream",
    [
        {"POSTMARK_MESSAGE_STREAM": "broadcast"},
        {"POSTMARK_SEND_DEFAULTS": {"esp_extra": {"MessageStream": "broadcast"}}},
    ],
)
def test_postmark_is_asked_about_the_stream_that_the_mail_went_by(
    stream: dict[str, Any], outside: HttpProvider, mails: Callable[..., list[Mail]], settings: LazySettings
) -> None:
    settings.ANYMAIL = {**settings.ANYMAIL, **stream}
    way, wave = Postmark(), mails("a@example.net")
    way.open()
    way.offer(wave)
    assert outside.mails()[0]["mark"].startswith("broadcast ")
    assert len(way.find([wave[0].headers["Message-ID"]])) == 1


@pytest.mark.parametrize("kind", [Resend, Brevo])
def test_a_call_that_is_repeated_under_its_key_is_not_taken_twice(
    kind: type[Http], outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    assert kind.replays_for
    outside.strike("a@*!=taken-500")
    wave = mails("a@example.net", "b@example.net") if kind.shares_calls else mails("a@example.net")
    way = opened(kind)
    assert {answer.kind for answer in way.offer(wave)} == {Kind.IN_DOUBT}
    assert {answer.kind for answer in way.repeat(wave)} == {Kind.ACCEPTED}
    assert outside.taken() == [mail.address for mail in wave]


@pytest.mark.parametrize("kind", [Resend, Brevo])
def test_a_call_that_was_not_taken_is_taken_when_it_is_repeated(
    kind: type[Http], outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    outside.strike("a@*!=500")
    way = opened(kind)
    assert way.offer(mails("a@example.net"))[0].kind == Kind.IN_DOUBT
    assert way.repeat(mails("a@example.net"))[0].kind == Kind.ACCEPTED
    assert outside.taken() == ["a@example.net"]


def test_the_same_key_with_other_words_proves_that_the_first_was_taken(
    outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    outside.strike("a@*!=taken-reset")
    way = opened(Resend)
    [mail] = mails("a@example.net")
    assert way.offer([mail])[0].kind == Kind.IN_DOUBT
    renamed = mail.mailing.to(mail.recipient._replace(name="Somebody Else"))
    # Offered, it is in doubt; only who asks what became of it may conclude.
    assert way.offer([renamed])[0].kind == Kind.IN_DOUBT
    assert way.repeat([renamed])[0].kind == Kind.ACCEPTED
    assert len(outside.mails()) == 1


def test_a_later_attempt_is_another_call(outside: HttpProvider, mails: Callable[..., list[Mail]]) -> None:
    way = opened(Resend)
    way.offer(mails("a@example.net"))
    way.offer(mails("a@example.net", attempt=2))
    keys = [mail["key"] for mail in outside.mails()]
    assert len(set(keys)) == 2
    assert all(0 < len(key) <= 256 for key in keys)


def test_a_mail_that_is_nobodys_delivery_has_no_key(
    outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    [mail] = mails("a@example.net")
    for kind in (Resend, Brevo):
        test = mail.mailing.to(mail.recipient._replace(call=""))
        assert opened(kind).offer([test])[0].kind == Kind.ACCEPTED
    assert [taken["key"] for taken in outside.mails()] == ["", ""]


@pytest.mark.parametrize("kind", [*SHARED, *ALONE])
@pytest.mark.parametrize("what", ["500", "503", "408", "silence", "reset", "taken-silence", "taken-reset"])
def test_what_proves_nothing_leaves_the_whole_call_in_doubt(
    kind: type[Http], what: str, outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    outside.strike(f"a@*={what}")
    way = opened(kind)
    answers = way.offer(mails("a@example.net", "b@example.net"))
    doubtful = [Kind.IN_DOUBT] * 2 if kind.shares_calls else [Kind.IN_DOUBT, Kind.ACCEPTED]
    assert [answer.kind for answer in answers] == doubtful
    assert way.open() == kind.holds


@pytest.mark.parametrize("kind", [*SHARED, *ALONE])
@pytest.mark.parametrize("status", ["401", "402", "403", "404", "302"])
def test_what_is_about_us_is_said_by_the_next_open_and_nothing_was_offered(
    kind: type[Http], status: str, outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    outside.strike(f"*={status}")
    way = opened(kind)
    answers = way.offer(mails("a@example.net", "b@example.net"))
    assert {answer.kind for answer in answers} == {Kind.NOT_OFFERED}
    with pytest.raises(SignInRefused, match=status):
        way.open()
    assert outside.mails() == []


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [("7", 7), ("", 60), ("soon", 60), ("99999999", 3600), ("Wed, 21 Oct 2015 07:28:00 GMT", 60)],
)
def test_who_wants_no_more_just_now_is_left_alone_as_long_as_they_say(
    wait: str, seconds: float, outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    outside.strike(f"*=429:{wait}")
    way = opened(Resend)
    answers = way.offer(mails("a@example.net", "b@example.net"))
    assert {answer.kind for answer in answers} == {Kind.NOT_OFFERED}
    with pytest.raises(NotOpen) as closed:
        way.open()
    assert closed.value.seconds == seconds
    assert not isinstance(closed.value, SignInRefused)
    # Once: the next try is a try.
    assert way.open() == Resend.holds


def test_a_moment_is_waited_for_at_once(outside: HttpProvider, mails: Callable[..., list[Mail]]) -> None:
    outside.strike("*=429:1")
    way = opened(Resend)
    way.offer(mails("a@example.net"))
    began = time.monotonic()
    assert way.open() == Resend.holds
    assert time.monotonic() - began > 0.9


def test_a_date_says_how_long_too(outside: HttpProvider, mails: Callable[..., list[Mail]]) -> None:
    at = time.strftime("%a, %d %b %Y %H:%M:%S", time.gmtime(time.time() + 600))
    outside.strike(f"*=429:{at} -0000")
    way = opened(Resend)
    way.offer(mails("a@example.net"))
    with pytest.raises(NotOpen) as closed:
        way.open()
    assert 590 < closed.value.seconds <= 600


@pytest.mark.parametrize("kind", SHARED)
def test_a_call_of_several_that_is_refused_says_nothing_of_each_and_one_alone_is_refused(
    kind: type[Http], outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    outside.strike("bad@*=422:no such domain")
    way = opened(kind)
    company = way.offer(mails("good@example.net", "bad@example.net"))
    assert [answer.kind for answer in company] == [Kind.LATER] * 2
    alone = way.offer(mails("bad@example.net"))
    assert [answer.kind for answer in alone] == [Kind.REFUSED]
    assert alone[0].said == "no such domain"
    assert outside.mails() == []


@pytest.mark.parametrize(("kind", "words"), [(Resend, "no such domain"), (Postmark, "406 inactive")])
def test_one_that_is_refused_in_an_answer_that_takes_the_others_stops_nobody(
    kind: type[Http], words: str, outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    outside.strike(f"bad@*=refuse:{words}")
    answers = opened(kind).offer(mails("a@example.net", "bad@example.net", "c@example.net"))
    assert [answer.kind for answer in answers] == [Kind.ACCEPTED, Kind.REFUSED, Kind.ACCEPTED]
    assert answers[1].said == words.removeprefix("406 ")
    taken = {mail["to"]: mail["id"] for mail in outside.mails()}
    assert taken == {"a@example.net": answers[0].provider_id, "c@example.net": answers[2].provider_id}


@pytest.mark.parametrize(("code", "kind"), [(400, SignInRefused), (429, NotOpen), (100, NotOpen)])
def test_postmark_says_in_a_mails_answer_what_is_about_us(
    code: int, kind: type[NotOpen], outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    outside.strike(f"*=refuse:{code} not you")
    way = opened(Postmark)
    assert way.offer(mails("a@example.net"))[0].kind == Kind.NOT_OFFERED
    with pytest.raises(kind, match="not you"):
        way.open()


@pytest.mark.parametrize("kind", [*SHARED, *ALONE])
def test_without_a_connection_nothing_was_offered(
    kind: type[Http], nobody: str, mails: Callable[..., list[Mail]]
) -> None:
    way = opened(kind)
    answers = way.offer(mails("a@example.net", "b@example.net"))
    assert {answer.kind for answer in answers} == {Kind.NOT_OFFERED}
    with pytest.raises(NotOpen, match="cannot be reached"):
        way.open()


@pytest.mark.parametrize("kind", [Resend, Postmark, Mailgun, Brevo, Ses])
def test_a_provider_that_is_not_set_up_lets_nobody_in(kind: type[Http], settings: LazySettings) -> None:
    settings.ANYMAIL = {"AMAZON_SES_CLIENT_PARAMS": {"region_name": "no such region!"}}
    with pytest.raises(SignInRefused, match="not set up"):
        kind().open()


def test_what_cannot_be_written_for_the_provider_is_refused_and_the_others_go(
    outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    # Mailgun makes broken headers of it, so anymail refuses; Resend takes what is left.
    wave = mails("a@example.net", "b@exam\nple.net", "c@example.net")
    answers = opened(Resend).offer(wave)
    assert [answer.kind for answer in answers] == [Kind.ACCEPTED, Kind.REFUSED, Kind.ACCEPTED]
    assert outside.taken() == ["a@example.net", "c@example.net"]
    assert opened(Resend).offer(wave[1:2])[0].kind == Kind.REFUSED
    # A repetition that would be another call than before is none.
    assert {answer.kind for answer in opened(Resend).repeat(wave)} == {Kind.IN_DOUBT}
    assert len(outside.mails()) == 2


def test_one_that_raises_as_it_is_written_down_stops_nobody(
    outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    wave = mails("a@example.net", "b@example.net")
    wave[0].__dict__["_values"] = None
    assert [answer.kind for answer in opened(Resend).offer(wave)] == [Kind.REFUSED, Kind.ACCEPTED]
    assert outside.taken() == ["b@example.net"]


def test_a_refusal_of_the_repetition_says_nothing_of_the_call_before(
    outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    way = opened(Resend)
    for what in ("422", "429", "500", "reset"):
        outside.strike(f"*={what}")
        assert way.repeat(mails("a@example.net", "b@example.net"))[0].kind in (
            Kind.IN_DOUBT,
            Kind.NOT_OFFERED,
        )
        with suppress(NotOpen):
            way.open()
    assert outside.mails() == []


def test_what_a_provider_forgot_to_answer_is_in_doubt() -> None:
    for way, said in ((Resend(), {"data": []}), (Postmark(), [])):
        with pytest.raises(ValueError, match="1 answers"):
            way.read(said, 1)

    class Unclear:
        status_code = 200
        text = "<p>hello"
        reason = "OK"

        def json(self) -> Any:
            raise ValueError

    assert [answer.kind for answer in Resend().heard(Unclear(), 2)] == [Kind.IN_DOUBT] * 2
    assert words_of(Unclear()) == "<p>hello"


def test_a_connection_that_lay_idle_is_made_anew(
    outside: HttpProvider, mails: Callable[..., list[Mail]], monkeypatch: pytest.MonkeyPatch
) -> None:
    way = opened(Resend)
    [lane] = way._lanes
    way.open()
    assert way._lanes == [lane]
    monkeypatch.setattr("messaging.providers.http.IDLE_SECONDS", -1.0)
    way.open()
    assert way._lanes != [lane]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("django.core.mail.backends.smtp.EmailBackend", Smtp),
        ("anymail.backends.resend.EmailBackend", Resend),
        ("anymail.backends.postmark.EmailBackend", Postmark),
        ("anymail.backends.mailgun.EmailBackend", Mailgun),
        ("anymail.backends.brevo.EmailBackend", Brevo),
        ("anymail.backends.amazon_ses.EmailBackend", Ses),
        ("anymail.backends.sendgrid.EmailBackend", Backend),
        ("django.core.mail.backends.locmem.EmailBackend", Backend),
    ],
)
def test_the_settings_name_the_way(path: str, kind: type, settings: LazySettings) -> None:
    settings.EMAIL_BACKEND = path
    assert type(provider()) is kind


# --- Amazon, whose client is its own -----------------------------------------------------------------


@pytest.fixture
def ses(outside: HttpProvider, settings: LazySettings) -> Http:
    settings.ANYMAIL = {
        "AMAZON_SES_CLIENT_PARAMS": {
            "region_name": "eu-west-1",
            "aws_access_key_id": "id",
            "aws_secret_access_key": "key",
            "endpoint_url": outside.url.rstrip("/"),
        }
    }
    return opened(Ses)


def test_amazon_takes_a_mail_and_names_it(
    ses: Http, outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    answers = ses.offer(mails("a@example.net", "b@example.net"))
    assert [answer.kind for answer in answers] == [Kind.ACCEPTED] * 2
    taken = {mail["to"]: mail["id"] for mail in outside.mails()}
    assert taken == {"a@example.net": answers[0].provider_id, "b@example.net": answers[1].provider_id}


@pytest.mark.parametrize("what", ["taken-500", "500", "taken-silence", "taken-reset"])
def test_amazons_client_does_not_try_again_by_itself(
    what: str, ses: Http, outside: HttpProvider, mails: Callable[..., list[Mail]]
) -> None:
    outside.strike(f"a@*={what}")
    assert ses.offer(mails("a@example.net"))[0].kind == Kind.IN_DOUBT
    assert len(outside.mails()) == what.startswith("taken")


@pytest.mark.parametrize(
    ("what", "kind", "closed"),
    [
        ("400:MessageRejected", Kind.REFUSED, None),
        ("400:TooManyRequestsException", Kind.NOT_OFFERED, NotOpen),
        ("429", Kind.NOT_OFFERED, NotOpen),
        ("400:SendingPausedException", Kind.NOT_OFFERED, SignInRefused),
        ("403", Kind.NOT_OFFERED, SignInRefused),
    ],
)
def test_amazons_refusals_are_told_apart_by_their_names(
    what: str,
    kind: Kind,
    closed: type[NotOpen] | None,
    ses: Http,
    outside: HttpProvider,
    mails: Callable[..., list[Mail]],
) -> None:
    outside.strike(f"a@*={what}")
    assert ses.offer(mails("a@example.net"))[0].kind == kind
    if closed:
        with pytest.raises(closed):
            ses.open()


def test_amazon_out_of_reach_was_offered_nothing(
    settings: LazySettings, nobody: str, mails: Callable[..., list[Mail]]
) -> None:
    settings.ANYMAIL = {
        "AMAZON_SES_CLIENT_PARAMS": {
            "region_name": "eu-west-1",
            "aws_access_key_id": "id",
            "aws_secret_access_key": "key",
            "endpoint_url": nobody.rstrip("/"),
        }
    }
    assert opened(Ses).offer(mails("a@example.net"))[0].kind == Kind.NOT_OFFERED
