"""Requests no browser makes: each is answered in a sentence, and leaves no traceback in the log."""

import logging
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from django.conf import LazySettings, settings
from django.test import Client, RequestFactory

from config.wsgi import application

TOKEN = "a" * 32
FORM = "application/x-www-form-urlencoded"
UNREADABLE = [
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=ÿ",
    "multipart/form-data; boundary=x; charset=base64",
    "multipart/form-data; boundary=x; charset=idna",
    "application/x-www-form-urlencoded; charset=base64",
    "application/x-www-form-urlencoded; charset=utf-16",
]


@pytest.fixture
def browser() -> Client:
    browser = Client(enforce_csrf_checks=True, raise_request_exception=False)
    browser.cookies["csrftoken"] = TOKEN
    return browser


@pytest.mark.django_db
@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("path", ["/accounts/login/", "/unsubscribe/forged/", "/nowhere/"])
def test_a_form_that_cannot_be_read_is_the_sender_s_fault(browser: Client, path: str, kind: str) -> None:
    answer = browser.generic("POST", path, b"--x\r\n", kind, headers={"X-CSRFToken": TOKEN})
    assert answer.status_code < 500
    assert b"<h1>" in answer.content


@pytest.mark.django_db
@pytest.mark.parametrize("charset", ["base64", "rot13", "idna", "utf-16"])
@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", FORM])
def test_a_form_and_its_address_are_utf_8_whatever_the_sender_calls_them(kind: str, charset: str) -> None:
    """By the server's own way in: the tests' client makes its requests by itself."""
    field = 'Content-Disposition: form-data; name="login"\r\n\r\nJürgen@example'
    body = "login=Jürgen@example" if kind == FORM else f"--x\r\n{field}\r\n--x--\r\n"
    environ = RequestFactory().generic("POST", "/accounts/login/?next=/knight/", body, kind).environ
    environ["CONTENT_TYPE"] += f"; charset={charset}"
    environ |= {"HTTP_COOKIE": f"csrftoken={TOKEN}", "HTTP_X_CSRFTOKEN": TOKEN}
    said: list[str] = []
    with closing(application(environ, lambda status, headers, *_: said.append(status))) as answer:
        page = b"".join(answer).decode()
    assert said == ["200 OK"]
    assert "Jürgen@example" in page
    assert "/knight/" in page


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["evil.example", "testserver@evil.example", "[::1"])
def test_a_forged_host_is_told_that_the_request_could_not_be_read(browser: Client, host: str) -> None:
    answer = browser.get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert "We could not read that" in answer.text


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["\x00aaaaaaaaaaaa", "ÿ" * 40, "../../etc"])
def test_a_made_up_session_is_no_session(browser: Client, key: str) -> None:
    browser.cookies[settings.SESSION_COOKIE_NAME] = key
    answer = browser.get("/")
    assert answer.status_code == 200
    assert "Sign in" in answer.text


@pytest.mark.parametrize("query", ["verb=%00", "verb__exact=a%00b", "q=%00", "verb=%%0000"])
def test_no_filter_of_the_admin_hears_a_nul(query: str, admin_client: Client) -> None:
    answer = admin_client.get(f"/admin/accounts/auditevent/?{query}")
    assert answer.status_code in {200, 302}


@pytest.mark.django_db
def test_a_mail_of_an_endless_name_is_not_there(
    settings: LazySettings, client: Client, tmp_path: Path
) -> None:
    settings.MAILBOX = True
    settings.MAILBOX_DIR = tmp_path
    for page in ("", "html/", "raw/"):
        assert client.get(f"/mailbox/{'a' * 300}/{page}").status_code == 404


@pytest.mark.django_db
def test_a_refused_request_is_one_line_in_the_log(browser: Client) -> None:
    said = StringIO()
    handler = next(each for each in logging.getLogger().handlers if type(each) is logging.StreamHandler)
    stream = handler.setStream(said)
    try:
        browser.get("/", headers={"Host": "evil.example"})
        browser.generic("POST", "/accounts/login/", b"x", UNREADABLE[0], headers={"X-CSRFToken": TOKEN})
    finally:
        handler.setStream(stream)
    assert len(said.getvalue().splitlines()) == 2
    assert "Traceback" not in said.getvalue()
