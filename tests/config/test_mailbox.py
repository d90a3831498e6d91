"""Mail that stays here: kept whole, listed cheaply, shown harmlessly, and only on this machine."""

from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core import checks, mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMultiAlternatives
from django.test import Client

from config import mailbox
from config.mailbox import MailboxBackend, refuse_without_real_mail


@pytest.fixture
def kept_here(settings: LazySettings, tmp_path: Path) -> Path:
    settings.EMAIL_BACKEND = "config.mailbox.MailboxBackend"
    settings.MAILBOX = True
    settings.MAILBOX_DIR = tmp_path / "mailbox"
    return tmp_path / "mailbox"


def write(subject: str = "Your code", to: str = "jo@example.org", html: str = "<p>Hello</p>") -> None:
    letter = EmailMultiAlternatives(subject, "Hello, see https://example.org/x", "Ana <a@b.example>", [to])
    letter.attach_alternative(html, "text/html")
    letter.send()


def test_a_mail_is_one_whole_file_and_nothing_else_lies_there(kept_here: Path) -> None:
    write("Grüße aus der Schmiede")
    (file,) = kept_here.iterdir()
    assert file.suffix == ".eml"
    assert b"Subject: =?utf-8?" in file.read_bytes()


def test_a_mail_without_a_recipient_is_not_kept(kept_here: Path) -> None:
    assert MailboxBackend().send_messages([mail.EmailMessage("x", "y", "a@b.example", [])]) == 0
    assert not list(kept_here.iterdir())


@pytest.mark.django_db
def test_the_newest_stands_first_and_a_mail_shows_text_html_headers_and_itself(kept_here: Path) -> None:
    write("First")
    write("Second <script>alert(1)</script>")
    client = Client()
    page = client.get("/mailbox/").content.decode()
    assert page.index("Second") < page.index("First")
    assert "<script>alert" not in page
    name = mailbox.names()[0]
    shown = client.get(f"/mailbox/{name}/").content.decode()
    assert "jo@example.org" in shown
    assert "https://example.org/x" in shown
    assert client.get(f"/mailbox/{name}/raw/").content == (kept_here / f"{name}.eml").read_bytes()


@pytest.mark.django_db
def test_a_mails_html_is_shown_where_it_can_do_nothing_but_open_links(kept_here: Path) -> None:
    write(html="<html><head><title>x</title></head><body><script>alert(1)</script></body></html>")
    name = mailbox.names()[0]
    answer = Client().get(f"/mailbox/{name}/html/")
    policy = answer["Content-Security-Policy"]
    assert "script-src 'none'" in policy
    assert "sandbox allow-popups allow-popups-to-escape-sandbox" in policy
    assert "allow-scripts" not in policy
    assert '<head><base target="_blank">' in answer.content.decode()
    assert "sandbox=" in Client().get(f"/mailbox/{name}/").content.decode()


@pytest.mark.django_db
def test_twenty_thousand_mails_are_listed_by_opening_one_page_of_them(
    kept_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_here.mkdir()
    for number in range(20_000):
        (kept_here / f"{number:020d}-00000000.eml").write_bytes(b"Subject: one of many\nTo: a@b.example\n\nx")
    opened: list[str] = []
    path_of = mailbox.path_of

    def noted(name: str) -> Path:
        opened.append(name)
        return path_of(name)

    monkeypatch.setattr(mailbox, "path_of", noted)
    page = Client().get("/mailbox/?page=3").content.decode()
    assert page.count("one of many") == mailbox.MAILS_A_PAGE == len(opened)
    assert "Page 3 of 400" in page


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["", "1-a/", "1-a/html/", "1-a/raw/"])
def test_elsewhere_the_mailbox_does_not_exist(kept_here: Path, settings: LazySettings, path: str) -> None:
    kept_here.mkdir()
    (kept_here / "1-a.eml").write_bytes(b"Subject: x\n\ny")
    assert Client().get(f"/mailbox/{path}").status_code == 200
    assert Client(REMOTE_ADDR="192.0.2.7").get(f"/mailbox/{path}").status_code == 404
    assert Client(REMOTE_ADDR="").get(f"/mailbox/{path}").status_code == 404
    settings.ALLOWED_HOSTS = ["*"]
    for through_a_proxy in (
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_X_FORWARDED_PROTO": "http"},
        {"HTTP_X_FORWARDED_HOST": "testserver"},
        {"HTTP_X_REAL_IP": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_VIA": "1.1 somewhere"},
        {"SERVER_PROTOCOL": "HTTP/1.0"},
        {"HTTP_HOST": "rebound.example"},
    ):
        assert Client(**through_a_proxy).get(f"/mailbox/{path}").status_code == 404, through_a_proxy
    assert Client(HTTP_HOST="[::1]:8000", REMOTE_ADDR="::1").get(f"/mailbox/{path}").status_code == 200
    settings.MAILBOX = False
    assert Client().get(f"/mailbox/{path}").status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["nothing", "..", "%2e%2e%2fsecret_key", "1-a%00", "١٢"])
def test_a_name_that_is_none_is_not_found(kept_here: Path, name: str) -> None:
    (kept_here.parent / "secret_key.eml").write_text("secret")
    for ending in ("", "html/", "raw/"):
        assert Client().get(f"/mailbox/{name}/{ending}").status_code == 404


@pytest.mark.django_db
def test_a_mail_that_is_hardly_one_is_still_shown(kept_here: Path) -> None:
    kept_here.mkdir()
    (kept_here / "00000000000000000001-aa.eml").write_bytes(b"\xff\xfe no header at all")
    (kept_here / "00000000000000000002-bb.eml").write_bytes(
        b"Content-Type: text/plain; charset=nonsense\n\n\xff"
    )
    assert Client().get("/mailbox/").status_code == 200
    for name in mailbox.names():
        for ending in ("", "html/", "raw/"):
            assert Client().get(f"/mailbox/{name}/{ending}").status_code == 200


def test_a_server_meant_for_others_refuses_to_start_without_real_mail(
    kept_here: Path, settings: LazySettings
) -> None:
    assert not [found for found in checks.run_checks() if found.id == "config.E001"]
    settings.MAILBOX = False
    assert [found for found in checks.run_checks() if found.id == "config.E001"]
    with pytest.raises(ImproperlyConfigured, match="EMAIL_URL"):
        refuse_without_real_mail()
    with pytest.raises(ImproperlyConfigured):
        MailboxBackend()
