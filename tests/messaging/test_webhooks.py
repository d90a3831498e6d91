"""What providers post: proved first, kept once, refused in words."""

import gzip
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import responses
import time_machine
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from accounts.models import Suppression
from groups.models import Contact
from messaging.models import Delivery, Message, ProviderEvent
from messaging.providers.hooks import _OUR_MESSAGE_ID, HOOKS
from tests.messaging import posts
from tests.messaging.posts import PROVIDERS, Post

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def secrets(settings: LazySettings) -> None:
    settings.ANYMAIL = dict(posts.SECRETS)


@pytest.fixture(autouse=True)
def clock(now: datetime) -> Any:
    with time_machine.travel(now, tick=False) as traveller:
        yield traveller


@pytest.fixture
def delivery() -> Delivery:
    """One that is only talked about: what is kept of an event asks for nothing."""
    message = Message(request_id=uuid4())
    return Delivery(pk=7, address_key="p0@example.net", message=message)


@pytest.fixture
def sent(
    draft: Message,
    people: list[Contact],
    confirm: Callable[..., Message],
    start: Callable[..., Message],
    work: Callable[..., None],
) -> Delivery:
    """One of five that were accepted."""
    start(confirm(draft))
    work()
    return Delivery.objects.select_related("message").earliest("pk")


KINDS = {
    "accepted": "accepted",
    "soft": "accepted",
    "delivered": "delivered",
    "refused": "refused",
    "bounced": "bounced",
    "complained": "complained",
    "opened": "other",
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_is_understood(
    client: Client, delivery: Delivery, now: datetime, provider: str
) -> None:
    for kind, expected in KINDS.items():
        answer = PROVIDERS[provider](kind, delivery, now).to(client)
        assert (answer.status_code, answer.content) == (200, b"")
        event = ProviderEvent.objects.latest("pk")
        assert (event.provider, event.kind, event.state) == (provider, expected, "new")
        assert (event.delivery, event.address_key) == (delivery.pk, delivery.address_key)
        assert (event.received_at, event.at) == (now, now - timedelta(minutes=1))
        assert delivery.address_key in event.raw
        assert json.loads(event.raw)
    assert ProviderEvent.objects.count() == len(KINDS)


SUPPRESSED = (
    "Resend has suppressed sending to this address because it is on the account-level suppression list."
)


@pytest.mark.parametrize(
    ("provider", "changed", "kind"),
    [
        ("postmark", {"Type": "BadEmailAddress"}, "bounced"),
        ("postmark", {"Type": "ManuallyDeactivated"}, "refused"),
        ("postmark", {"RecordType": "SubscriptionChange", "SuppressionReason": "HardBounce"}, "refused"),
        ("postmark", {"RecordType": "SubscriptionChange", "SuppressSending": False}, "other"),
        ("postmark", {"RecordType": "SubscriptionChange", "SuppressionReason": "ManualSuppression"}, "other"),
        ("postmark", {"RecordType": "Somersault"}, "other"),
        ("brevo", {"event": "invalid_email"}, "bounced"),
        ("brevo", {"event": "error"}, "refused"),
        ("brevo", {"event": "deferred"}, "accepted"),
        ("mailgun", {"reason": "suppress-bounce"}, "refused"),
        (
            "amazon_ses",
            {"bounce": {"bounceType": "Undetermined", "bounceSubType": "Undetermined"}},
            "accepted",
        ),
        ("amazon_ses", {"eventType": "Rendering Failure", "failure": {"errorMessage": "no"}}, "refused"),
        ("amazon_ses", {"eventType": "DeliveryDelay"}, "accepted"),
    ],
)
def test_what_providers_call_by_names_of_their_own_is_told_apart(
    client: Client, delivery: Delivery, now: datetime, provider: str, changed: dict[str, Any], kind: str
) -> None:
    if "bounce" in changed:
        changed["bounce"]["bouncedRecipients"] = [{"emailAddress": delivery.address_key}]
    assert PROVIDERS[provider]("bounced", delivery, now, **changed).to(client).status_code == 200
    assert ProviderEvent.objects.get().kind == kind


@pytest.mark.parametrize(
    ("bounce", "kind"),
    [
        ({"message": SUPPRESSED, "type": "Permanent", "subType": "Suppressed"}, "refused"),
        ({"message": "sent a hard bounce message"}, "bounced"),
        ({"message": "sent a general bounce message", "type": "Undetermined"}, "accepted"),
    ],
)
def test_a_bounce_of_resends_says_itself_whether_it_is_for_good(
    client: Client, delivery: Delivery, now: datetime, bounce: dict[str, str], kind: str
) -> None:
    data = {"to": [delivery.address_key], "headers": [], "bounce": bounce}
    posts.resend("bounced", delivery, now, data=data).to(client)
    assert ProviderEvent.objects.get().kind == kind


def test_an_address_may_stand_with_a_name_and_a_header_be_written_large(
    client: Client, delivery: Delivery, now: datetime
) -> None:
    told = [{"emailAddress": f"Person 0 <{delivery.address_key}>"}]
    post = posts.amazon_ses("complained", delivery, now, complaint={"complainedRecipients": told})
    assert post.to(client, **{"Content-Encoding": "Identity"}).status_code == 200
    assert ProviderEvent.objects.get().address_key == delivery.address_key


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_same_post_again_is_kept_once(
    client: Client, delivery: Delivery, now: datetime, provider: str
) -> None:
    post = PROVIDERS[provider]("bounced", delivery, now)
    assert [post.to(client).status_code for _again in range(3)] == [200, 200, 200]
    assert ProviderEvent.objects.count() == 1
    PROVIDERS[provider]("bounced", delivery, now, number=2).to(client)
    assert ProviderEvent.objects.count() == 2


def test_another_body_under_the_same_id_changes_nothing(
    client: Client, delivery: Delivery, now: datetime
) -> None:
    posts.mailgun("delivered", delivery, now).to(client)
    # Mailgun signs a token and not the event: this is what a thief of one could make of it.
    forged = posts.mailgun("delivered", delivery, now, event="complained").to(client)
    assert forged.status_code == 200
    assert ProviderEvent.objects.get().kind == "delivered"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_that_is_not_set_up_does_not_exist(
    client: Client, delivery: Delivery, now: datetime, settings: LazySettings, provider: str
) -> None:
    settings.ANYMAIL = {**posts.SECRETS, HOOKS[provider].secret: ""}
    assert PROVIDERS[provider]("bounced", delivery, now).to(client).status_code == 404
    assert not ProviderEvent.objects.exists()


def test_a_provider_nobody_knows_does_not_exist(client: Client) -> None:
    assert Post("sendmail", b"{}").to(client).status_code == 404


def test_only_posting_is_heard(client: Client) -> None:
    address = reverse("messaging:provider_events", args=["postmark"])
    assert {getattr(client, way)(address).status_code for way in ("get", "head", "put", "delete")} == {405}


@pytest.mark.parametrize("provider", ["postmark", "amazon_ses", "brevo"])
@pytest.mark.parametrize(
    "given",
    [
        "Basic ZXZlbnRzOndyb25n",
        "Basic !!!",
        "Basic",
        "Basic /w==",
        "Bearer a-long-secret",
        f"{posts.BASIC},{posts.BASIC}",
        f"{posts.BASIC} {posts.BASIC}",
        "",
    ],
)
def test_who_does_not_know_the_secret_is_not_heard(
    client: Client, delivery: Delivery, now: datetime, provider: str, given: str
) -> None:
    answer = PROVIDERS[provider]("bounced", delivery, now).to(client, Authorization=given)
    assert answer.status_code in (401, 403)
    # Amazon gives it only when it is asked.
    assert (answer.status_code == 401) == ("WWW-Authenticate" in answer)
    assert not ProviderEvent.objects.exists()


def test_whoever_is_to_know_a_secret_is_asked_before_anything_is_read(client: Client) -> None:
    post = Post("postmark", b"x" * 2_000_000)
    assert post.to(client).status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        {"svix-signature": ""},
        {"svix-signature": "v1,"},
        {"svix-signature": "v1,Zm9yZ2Vk"},
        {"svix-signature": "v2,{good}"},
        {"svix-signature": "v1,{good},v1,{good}"},
        {"svix-signature": "{good}"},
        {"svix-signature": "v1,ü"},
        {"svix-id": "msg_another"},
        {"svix-id": ""},
        {"svix-timestamp": "1"},
        {"svix-timestamp": ""},
    ],
)
def test_a_wrong_signature_of_resend_is_refused(
    client: Client, delivery: Delivery, now: datetime, header: dict[str, str]
) -> None:
    post = posts.resend("bounced", delivery, now)
    good = post.headers["svix-signature"].removeprefix("v1,")
    answer = post.to(client, **{name: value.format(good=good) for name, value in header.items()})
    assert answer.status_code == 403
    assert not ProviderEvent.objects.exists()


def test_one_good_signature_among_several_is_enough_while_a_secret_is_changed(
    client: Client, delivery: Delivery, now: datetime
) -> None:
    post = posts.resend("bounced", delivery, now)
    several = f"v1,Zm9yZ2Vk {post.headers['svix-signature']} v1a,x"
    assert post.to(client, **{"svix-signature": several}).status_code == 200


def test_a_body_that_was_changed_or_signed_with_another_key_is_refused(
    client: Client, delivery: Delivery, now: datetime
) -> None:
    post = posts.resend("bounced", delivery, now)
    changed = Post("resend", post.body.replace(b"Permanent", b"Transient"), post.headers)
    assert changed.to(client).status_code == 403
    assert posts.signed_by_svix(post.body, now, secret="b3RoZXI=").to(client).status_code == 403
    other = posts.signed_by_mailgun({"event-data": {}}, now, key="other")
    assert other.to(client).status_code == 403
    assert not ProviderEvent.objects.exists()


@pytest.mark.parametrize(
    ("provider", "age", "status"),
    [
        ("resend", timedelta(minutes=5), 200),
        ("resend", timedelta(minutes=5, seconds=1), 403),
        ("resend", -timedelta(minutes=5), 200),
        ("resend", -timedelta(minutes=5, seconds=1), 403),
        ("mailgun", timedelta(hours=12), 200),
        ("mailgun", timedelta(hours=12, seconds=1), 403),
        ("mailgun", -timedelta(minutes=5, seconds=1), 403),
    ],
)
def test_a_signature_is_good_for_a_while_only(
    client: Client, delivery: Delivery, now: datetime, provider: str, age: timedelta, status: int
) -> None:
    assert PROVIDERS[provider]("delivered", delivery, now - age).to(client).status_code == status
    assert ProviderEvent.objects.count() == (1 if status == 200 else 0)


@pytest.mark.parametrize("stamp", ["", "now", "1e9", "-5", "١٢٣", "9" * 12, "9" * 5000, "12:00"])
def test_a_time_that_is_none_proves_nothing(client: Client, stamp: str) -> None:
    token = "t"
    signature = hmac.new(b"key-of-mailgun", f"{stamp}{token}".encode(), "sha256").hexdigest()
    block = {"timestamp": stamp, "token": token, "signature": signature}
    body = json.dumps({"signature": block, "event-data": {"event": "delivered"}}).encode()
    assert Post("mailgun", body).to(client).status_code in (400, 403)


@pytest.mark.parametrize(
    "block",
    [
        {},
        {"signature": None},
        {"signature": "x"},
        {"signature": {"token": "t", "timestamp": "1"}},
        {"signature": {"token": "t", "timestamp": "1", "signature": ["x"]}},
        {"signature": {"token": "é\ud800", "timestamp": "1", "signature": "x"}},
        [],
        None,
    ],
)
def test_a_broken_signature_of_mailgun_is_refused(client: Client, block: Any) -> None:
    assert Post("mailgun", json.dumps(block).encode()).to(client).status_code in (400, 403)
    assert not ProviderEvent.objects.exists()


def test_mailgun_is_heard_in_json_only(client: Client, delivery: Delivery, now: datetime) -> None:
    post = posts.mailgun("delivered", delivery, now)
    form = Post("mailgun", b"event=delivered", content_type="application/x-www-form-urlencoded")
    assert form.to(client).status_code == 403
    block = json.loads(post.body)["signature"]
    body = "&".join(f"{name}={value}" for name, value in {**block, "event": "delivered"}.items())
    form = Post("mailgun", body.encode(), content_type="application/x-www-form-urlencoded")
    assert form.to(client).status_code == 400
    assert not ProviderEvent.objects.exists()


def proved(provider: str, body: bytes, now: datetime) -> Post:
    """`body` as if the provider had really posted it."""
    if provider == "resend":
        return posts.signed_by_svix(body, now)
    if provider == "mailgun":
        whole = posts.signed_by_mailgun({}, now).body
        return Post("mailgun", whole[:-1] + b', "event-data": ' + body + b"}")
    if provider == "amazon_ses":
        whole = posts.by_sns("BODY")
        quoted = json.dumps(body.decode("latin-1"), ensure_ascii=False).encode("latin-1")
        return replace(whole, body=whole.body.replace(b'"BODY"', quoted))
    return Post(provider, body, {"Authorization": posts.BASIC})


NONSENSE = {
    "nothing": b"",
    "not JSON": b"<xml/>",
    "cut off": b'{"event": "deliv',
    "not UTF-8": b'{"event": "\xff\xfe"}',
    "NUL": b'{"event": "a\x00b"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"event": "delivered"}'.encode("utf-16"),
    "a word": b'"delivered"',
    "a number": b"1e400",
    "null": b"null",
    "an array": b"[1, 2]",
    "a long array": b"[" + b"1," * 99_999 + b"1]",
    "deep": b"[" * 10_000 + b"]" * 10_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "a long number": b'{"ts_epoch": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_nonsense_is_refused_in_words(client: Client, now: datetime, provider: str, nonsense: str) -> None:
    answer = proved(provider, NONSENSE[nonsense], now).to(client)
    assert answer.status_code in (400, 403, 413)
    assert answer["Content-Type"].startswith("text/plain")
    assert answer.content
    assert not ProviderEvent.objects.exists()


ODD: dict[str, Any] = {
    "an empty object": {},
    "names of no type": {
        "type": "email.wrong",
        "RecordType": 5,
        "event": ["x"],
        "eventType": "Zap",
        "data": None,
    },
    "values of no type": {
        "type": "email.bounced",
        "RecordType": "Bounce",
        "Type": {},
        "event": "hard_bounce",
        "eventType": "Bounce",
        "data": [],
        "bounce": [],
        "Metadata": 1,
        "ts_epoch": "x",
    },
    "endless": {
        "type": "email.delivered",
        "event": "delivered",
        "timestamp": float("inf"),
        "ts_epoch": float("inf"),
        "eventType": "Delivery",
        "delivery": {"recipients": [float("nan")]},
        "data": {"to": [float("inf")], "headers": []},
        "RecordType": "Delivery",
        "DeliveredAt": "9999-12-31T23:59:59-23:59",
    },
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_is_no_event_is_no_error_of_ours_and_has_no_effect(
    client: Client, now: datetime, provider: str, odd: str
) -> None:
    answer = proved(provider, json.dumps(ODD[odd]).encode(), now).to(client)
    assert answer.status_code in (200, 400)
    assert {event.delivery for event in ProviderEvent.objects.all()} <= {None}
    assert {event.at for event in ProviderEvent.objects.all()} <= {now, now - timedelta(minutes=1)}


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "\udfff@x", "x" * 5000, "\u202eevil", ""])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_text_that_no_database_takes_is_kept_without_that(
    client: Client, delivery: Delivery, now: datetime, provider: str, text: str
) -> None:
    delivery.address_key = text
    post = PROVIDERS[provider]("bounced", delivery, now, Details=text, reason=text, Description=text)
    assert post.to(client).status_code in (200, 400)
    for event in ProviderEvent.objects.all():
        assert (event.address_key, len(event.said) <= 300) == ("", True)
        assert "\x00" not in event.said + event.raw + event.event_id


def test_of_a_name_said_twice_the_last_is_read_everywhere(
    client: Client, delivery: Delivery, now: datetime
) -> None:
    post = posts.brevo("delivered", delivery, now)
    doubled = post.body.replace(b'{"event": "delivered"', b'{"event": "spam", "event": "delivered"')
    assert doubled != post.body
    assert Post("brevo", doubled, posts.AS_BREVO).to(client).status_code == 200
    assert ProviderEvent.objects.get().kind == "delivered"
    signed = posts.mailgun("delivered", delivery, now)
    forged = signed.body[:-1] + b', "signature": {"token": "x", "timestamp": "1", "signature": "x"}}'
    assert Post("mailgun", forged).to(client).status_code == 403


def test_a_packed_body_is_not_unpacked(client: Client, delivery: Delivery, now: datetime) -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    answer = Post("brevo", bomb, posts.AS_BREVO).to(client, **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.content) == (400, b"Send it unpacked.")
    post = posts.brevo("delivered", delivery, now)
    assert post.to(client, **{"Content-Encoding": "identity"}).status_code == 200


def test_too_much_at_once_is_refused(client: Client, delivery: Delivery, now: datetime) -> None:
    def batch(size: int) -> Post:
        events = [{"event": "delivered", "email": f"p{n}@example.net", "id": n} for n in range(size)]
        return Post("brevo", json.dumps(events).encode(), posts.AS_BREVO)

    assert batch(1000).to(client).status_code == 200
    assert ProviderEvent.objects.count() == 1000
    answer = batch(1001).to(client)
    assert (answer.status_code, answer.content) == (413, b"At most 1000 events at once.")
    recipients = {"delivery": {"recipients": [f"p{n}@example.net" for n in range(1001)]}}
    assert posts.amazon_ses("delivered", delivery, now, **recipients).to(client).status_code == 413
    for length, status in ((1_000_000, 400), (1_000_001, 413)):
        assert Post("brevo", b" " * length, posts.AS_BREVO).to(client).status_code == status
    assert ProviderEvent.objects.count() == 1000


def test_a_length_that_is_none_or_a_body_that_breaks_off_is_refused(client: Client) -> None:
    class Broken:
        def read(self, *_args: int) -> bytes:
            raise OSError("gone")

        readline = read

    address = reverse("messaging:provider_events", args=["brevo"])
    headers = {"Authorization": posts.BASIC}
    answer = client.generic("POST", address, b"{}", CONTENT_LENGTH="many", headers=headers)
    assert answer.status_code == 400
    broken = {"wsgi.input": Broken(), "CONTENT_LENGTH": "2"}
    answer = client.generic("POST", address, b"{}", headers=headers, **broken)  # type: ignore[arg-type]
    assert (answer.status_code, answer.content) == (400, b"It broke off.")


def test_several_of_one_notification_are_kept_apart(
    client: Client, delivery: Delivery, now: datetime
) -> None:
    two = {"complainedRecipients": [{"emailAddress": "a@example.net"}, {"emailAddress": "b@example.net"}]}
    post = posts.amazon_ses("complained", delivery, now, complaint=two)
    post.to(client)
    post.to(client)
    assert sorted(ProviderEvent.objects.values_list("address_key", flat=True)) == [
        "a@example.net",
        "b@example.net",
    ]


def test_a_long_id_is_kept_as_its_digest(client: Client, delivery: Delivery, now: datetime) -> None:
    posts.mailgun("delivered", delivery, now, number=10**300).to(client)
    assert len(ProviderEvent.objects.get().event_id) == 64


def unmarked(delivery: Delivery, now: datetime, *, message_id: str, number: int = 1) -> Post:
    headers = {"user-variables": {}, "message": {"headers": {"message-id": message_id}}}
    return posts.mailgun("bounced", delivery, now, number=number, **headers)


def test_without_our_mark_our_message_id_names_the_delivery(
    client: Client, sent: Delivery, now: datetime
) -> None:
    unmarked(sent, now, message_id=posts.message_id(sent)).to(client)
    assert ProviderEvent.objects.get().delivery == sent.pk


def test_the_message_id_of_a_real_mail_is_the_one_that_is_looked_for(
    sent: Delivery, mailoutbox: list[Any]
) -> None:
    ids = {mail.extra_headers["Message-ID"] for mail in mailoutbox}
    assert posts.message_id(sent).partition("@")[0] in {one.partition("@")[0] for one in ids}
    assert all(_OUR_MESSAGE_ID.search(one) for one in ids)


def test_a_message_id_that_is_not_wholly_ours_names_nothing(
    client: Client, sent: Delivery, now: datetime
) -> None:
    assert sent.message.request_id is not None
    request = sent.message.request_id.hex
    names = [
        f"{sent.pk}.00000000000000000000000000000000@testserver",
        f"sample-{sent.pk}.{request}@testserver",
        f"9999999999999999999.{request}@testserver",
        f"12345678.{request}@testserver",
        f"{sent.pk}.{request}",
        "x",
    ]
    for number, name in enumerate(names):
        assert unmarked(sent, now, message_id=name, number=number).to(client).status_code == 200
    assert ProviderEvent.objects.count() == len(names)
    assert set(ProviderEvent.objects.values_list("delivery", flat=True)) == {None}


@pytest.mark.parametrize("mark", ["", "x", "-1", "1e3", "١٢", str(2**63), "9" * 25, None, [1], {"a": 1}, 1.5])
def test_a_mark_that_is_no_number_names_nothing(
    client: Client, delivery: Delivery, now: datetime, mark: Any
) -> None:
    custom = json.dumps({"delivery": mark})
    posts.brevo("bounced", delivery, now, **{"X-Mailin-custom": custom}).to(client)
    posts.brevo("bounced", delivery, now, number=2, **{"X-Mailin-custom": "[1]"}).to(client)
    assert set(ProviderEvent.objects.values_list("delivery", flat=True)) == {None}


CONFIRMATION = "You have chosen to subscribe to the topic."
SUBSCRIBE = "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37f"


def subscription(link: Any) -> Post:
    return posts.by_sns(CONFIRMATION, kind="SubscriptionConfirmation", Token="2336412f37f", SubscribeURL=link)


@responses.activate
def test_a_topic_of_amazons_is_confirmed_once_the_secret_is_known(client: Client) -> None:
    asked = responses.get(SUBSCRIBE, status=200, body="<ConfirmSubscriptionResponse/>")
    assert subscription(SUBSCRIBE).to(client, Authorization="Basic ZXZlbnRzOndyb25n").status_code == 403
    assert asked.call_count == 0
    assert subscription(SUBSCRIBE).to(client).status_code == 200
    assert asked.call_count == 1
    assert not ProviderEvent.objects.exists()


@responses.activate
@pytest.mark.parametrize(
    "link",
    [
        "http://sns.us-west-2.amazonaws.com/",
        "https://evil.example/",
        "https://169.254.169.254/latest/meta-data/",
        "https://sns.us-west-2.amazonaws.com.evil.example/",
        "https://sns.us-west-2.amazonaws.com@evil.example/",
        "https://evil@sns.us-west-2.amazonaws.com/",
        "https://sns.us-west-2.amazonaws.com:8443/",
        "https://evil.example/sns.us-west-2.amazonaws.com/",
        "https://sns.evil.s3.amazonaws.com/",
        "https://bucket.s3.us-west-2.amazonaws.com/",
        "https://sns.us-west-2.amazonaws.com\\@evil.example/",
        "https://sns.us-west-2.amazonaws.com\n.evil.example/",
        "https://[::1]/",
        "https://[",
        "file:///etc/passwd",
        "",
        None,
        5,
    ],
)
def test_a_topic_that_is_confirmed_elsewhere_is_not_confirmed(client: Client, link: Any) -> None:
    assert subscription(link).to(client).status_code == 400
    assert len(responses.calls) == 0


@responses.activate
def test_confirming_follows_nobody_and_says_when_it_failed(client: Client) -> None:
    away = responses.get("https://evil.example/")
    responses.get(SUBSCRIBE, status=302, headers={"Location": "https://evil.example/"})
    assert subscription(SUBSCRIBE).to(client).status_code == 503
    assert away.call_count == 0
    responses.reset()
    assert subscription(SUBSCRIBE).to(client).status_code == 503


@responses.activate
def test_where_a_certificate_is_said_to_be_nobody_looks(
    client: Client, delivery: Delivery, now: datetime
) -> None:
    post = posts.by_sns("{}", SigningCertURL="http://169.254.169.254/", UnsubscribeURL="http://127.0.0.1/")
    assert post.to(client).status_code in (200, 400)
    assert len(responses.calls) == 0


def test_what_else_amazon_says_is_heard_and_left(client: Client) -> None:
    ended = posts.by_sns("You have chosen to deactivate", kind="UnsubscribeConfirmation")
    assert ended.to(client).status_code == 200
    proof = posts.by_sns("Successfully validated SNS topic for Amazon SES event publishing.")
    assert proof.to(client).status_code == 200
    assert posts.by_sns("{}", kind="Something").to(client).status_code == 400
    other = posts.by_sns("{}").to(client, **{"x-amz-sns-message-id": "another"})
    assert other.status_code == 403
    assert not ProviderEvent.objects.exists()
    assert not Suppression.objects.exists()
