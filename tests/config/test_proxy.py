"""Behind a proxy every person is a person of their own; without one nobody is whom they claim to be."""

import re

import pytest
from django.conf import LazySettings
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client, override_settings

from accounts.models import User
from config.proxy import SCHEME, Believed, shortened

CODE, LOGIN = "/accounts/login/code/", "/accounts/login/"
# An address of the open internet: those for documentation are as good as private.
HERE, OUR_PROXY = "93.184.215.14", "10.0.0.7"


@pytest.fixture(autouse=True)
def fresh_limits(settings: LazySettings) -> None:
    """Three a minute: twenty requests can take longer than that on a busy machine."""
    settings.ACCOUNT_RATE_LIMITS = settings.ACCOUNT_RATE_LIMITS | {"request_login_code": "3/m/ip"}
    cache.clear()


def person(address: str, **claims: str) -> Client:
    """Somebody at `address`, as the documented proxy passes them on."""
    return Client(
        REMOTE_ADDR=OUR_PROXY, HTTP_X_FORWARDED_FOR=address, HTTP_X_FORWARDED_PROTO="https", **claims
    )


def may_ask(client: Client, number: int) -> bool:
    return client.post(CODE, {"email": f"somebody{number}@example.org"}).status_code == 302


@pytest.fixture
def behind(settings: LazySettings) -> None:
    settings.PROXIES = Believed("true")
    settings.SECURE_PROXY_SSL_HEADER = (SCHEME, "https")


@pytest.mark.django_db
@pytest.mark.usefixtures("behind")
def test_one_visitors_limit_is_not_anothers() -> None:
    assert [may_ask(person("198.51.100.1"), number) for number in range(4)] == [True, True, True, False]
    assert may_ask(person("198.51.100.2"), 30)


@pytest.mark.django_db
@pytest.mark.usefixtures("behind")
def test_ten_wrong_passwords_close_sign_in_for_whoever_typed_them_only(member: User) -> None:
    member.set_password("one long sentence only mia knows")
    member.save()
    guesser, mia = person("198.51.100.1"), person("198.51.100.2")
    for number in range(12):
        guessed = guesser.post(LOGIN, {"login": f"nobody{number}@example.org", "password": "x"})
    assert "Too many failed" in guessed.text
    mia.post(LOGIN, {"login": member.email, "password": "one long sentence only mia knows"})
    assert mia.session["_auth_user_id"] == str(member.pk)


@pytest.mark.django_db
@pytest.mark.usefixtures("behind")
def test_what_a_client_wrote_into_the_list_before_our_proxy_counts_for_nothing() -> None:
    spoofed = [person(f"192.0.2.{number}, 198.51.100.1") for number in range(4)]
    assert [may_ask(one, number) for number, one in enumerate(spoofed)] == [True, True, True, False]


@pytest.mark.django_db
@pytest.mark.parametrize("words", ["true", "false", OUR_PROXY])
def test_whoever_comes_straight_to_us_is_who_they_are_and_speaks_the_scheme_they_speak(
    settings: LazySettings, words: str
) -> None:
    settings.PROXIES = Believed(words)
    settings.SECURE_PROXY_SSL_HEADER = (SCHEME, "https")
    said = {"REMOTE_ADDR": HERE, "HTTP_X_FORWARDED_PROTO": "https"}
    spoofed = [Client(HTTP_X_FORWARDED_FOR=f"192.0.2.{number}", **said) for number in range(4)]
    assert [may_ask(one, number) for number, one in enumerate(spoofed)] == [True, True, True, False]
    request = spoofed[0].get(LOGIN).wsgi_request
    assert request.META["REMOTE_ADDR"] == HERE
    assert not request.is_secure()


@pytest.mark.django_db
@pytest.mark.usefixtures("behind")
def test_the_proxys_scheme_is_believed() -> None:
    assert person("198.51.100.1").get(LOGIN).wsgi_request.is_secure()


@pytest.mark.parametrize(
    ("words", "peer", "claims", "who"),
    [
        ("true", "", "198.51.100.1", "198.51.100.1"),
        ("true", "172.18.0.1", "198.51.100.1", "198.51.100.1"),
        ("true", "::ffff:10.0.0.7", "198.51.100.1:4711", "198.51.100.1"),
        ("true", "fd00::7", "[2001:db8::1]:4711", "2001:db8::1"),
        ("true", "10.0.0.7", "", "10.0.0.7"),
        ("true", "10.0.0.7", "unknown", "10.0.0.7"),
        ("true", "10.0.0.7", "198.51.100.1, 10.0.0.9", "10.0.0.9"),
        ("10.0.0.7, 198.51.100.0/24", "10.0.0.7", "192.0.2.1, 203.0.113.5, 198.51.100.9", "203.0.113.5"),
        ("10.0.0.7", "10.0.0.7", "10.0.0.7, 10.0.0.7", "10.0.0.7"),
    ],
)
def test_who_asks_is_the_last_that_is_no_proxy_of_ours(words: str, peer: str, claims: str, who: str) -> None:
    assert peer in Believed(words)
    assert Believed(words).client(peer, claims) == who


@pytest.mark.parametrize(
    ("words", "peer"),
    [("false", "127.0.0.1"), ("", ""), ("true", "8.8.8.8"), ("10.0.0.7", "127.0.0.1"), ("true", "nonsense")],
)
def test_who_is_not_believed(words: str, peer: str) -> None:
    assert peer not in Believed(words)


def test_a_word_that_names_no_proxy_is_refused() -> None:
    with pytest.raises(ValueError, match="addresses of your proxies"):
        Believed("perhaps")


def test_a_network_is_said_and_not_who_is_in_it() -> None:
    assert [shortened(ip) for ip in ("198.51.100.77", "2001:db8:1:2::7", "::ffff:198.51.100.77", "?")] == [
        "198.51.100.0",
        "2001:db8:1::",
        "198.51.100.0",
        "unknown",
    ]


def too_often(client: Client, path: str, form: dict[str, object], times: int) -> HttpResponse:
    for _again in range(times):
        answer: HttpResponse = client.post(path, form)
    return answer


@pytest.mark.django_db
@override_settings(ACCOUNT_RATE_LIMITS={"signup": "1/m/ip"})
def test_too_often_is_a_page_of_ours_that_says_when_and_keeps_what_was_typed() -> None:
    typed = {"email": 'annie"<b>@example.org', "next": "/library/?a=1&b=2", "password1": "hidden words"}
    answer = too_often(Client(), "/accounts/signup/?from=here", typed, 2)
    page = answer.content.decode()
    assert answer.status_code == 429
    assert answer["Retry-After"] == "60"
    assert "in a minute" in page
    assert 'class="site-header"' in page
    assert 'name="email" value="annie&quot;&lt;b&gt;@example.org"' in page
    assert "hidden words" not in page
    # The form goes where it came from, by a form without an address of its own.
    assert re.search(r'<form class="actions" method="post">', page)


@pytest.mark.django_db
@override_settings(ACCOUNT_RATE_LIMITS={"signup": "1/m/ip"})
def test_what_is_very_large_is_not_said_again() -> None:
    answer = too_often(Client(), "/accounts/signup/", {"email": "a" * 200_000}, 2)
    assert answer.status_code == 429
    assert len(answer.content) < 20_000
