"""A setting that cannot be right is named at the start, with a sentence, beside all others that cannot."""

import ast
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from config.cache import Json
from config.judging import JUDGES, host, hosts, mail_address, refused, site
from config.kept import kept_secret, private_folder

ROOT = Path(__file__).parent.parent.parent
GOOD = "a1b2c3d4e5" * 5

HOSTILE = [
    ("SECRET_KEY", ["short", "a" * 50, "replace-me-with-fifty-random-characters-of-your-own-0"]),
    ("SECRET_KEY_FALLBACKS", ["short", f"{GOOD},short", "replace-me"]),
    ("TICKET_KEY", ["x" * 31, "replace-me"]),
    ("METRICS_TOKEN", ["secret"]),
    ("SITE_URL", [
        "gifts.example.org", "ftp://gifts.example.org", "https://", "https://a b.example", "https://u:p@a.example",
        "https://a.example/path", "https://a.example?x=1", "https://a.example:99999", "https://[::1", "javascript:1",
        "https://-a.example", "https://a_b.example", "https://a..example",
    ]),
    ("SITE_NAME", ['The "Forge"', "a\nBcc: x@y.example", "x" * 81, "<b>"]),
    ("ALLOWED_HOSTS", ["*", "https://a.example", "a.example:80", "a b"]),
    ("BIND", ["somewhere", "127.0.0.1:8000", "999.1.1.1"]),
    ("PORT", ["http", "-1", "65536", "8000.0", "8_000", "１２"]),
    ("WEB_CONCURRENCY", ["0", "many"]),
    ("BEHIND_PROXY", ["perhaps", "10.0.0.0/99"]),
    ("DEBUG", ["ture", "2"]),
    ("STAFF_MFA", ["maybe"]),
    ("HSTS_SECONDS", ["-1", "forever"]),
    ("HSTS_PRELOAD", ["perhaps"]),
    ("HSTS_SUBDOMAINS", ["perhaps"]),
    ("CREATORS", ["everyone", "Open"]),
    ("DATABASE_URL", ["mysql://a@b/c", "postgres://a@b:port/c", "postgres://host", "nonsense"]),
    ("CONN_MAX_AGE", ["-1"]),
    ("REDIS_URL", ["http://127.0.0.1", "127.0.0.1:6379", "redis://:p@host:port/0"]),
    ("SWEEP_SECONDS", ["0", "nan", "inf", "-5", "a"]),
    ("EMAIL_URL", ["mail.example.org", "smpt://a@b", "smtp+tls://u:p@:587", "smtp://h:port"]),
    ("LETTERS_EMAIL_URL", ["nonsense"]),
    ("EMAIL_BACKEND", ["anymail", "anymail.backends.nothing.EmailBackend", "os;rm"]),
    ("LETTERS_EMAIL_BACKEND", ["nowhere.at.all.Backend"]),
    ("MAIL_FROM", ["mail", "mail@", "a@b@c", "a@b.example\nBcc: c@d.example"]),
    ("LETTERS_FROM", ["nobody"]),
    ("ALARM_TO", ["ops@example.org, nobody"]),
    ("LETTERS_ESP_EXTRA", ["{", "[]", "[" * 100_000]),
    ("ANYMAIL_POSTMARK_SEND_DEFAULTS", ["broadcast", "1"]),
    ("ANYMAIL_RESEND_API_KEY", ["replace-me"]),
    ("SEND_LEASE_SECONDS", ["0", "soon"]),
    ("MAIL_RATE", ["-1", "fast"]),
    ("SMTP_CONNECTIONS", ["0"]),
    ("EVENTS_KEEP_DAYS", ["0", "9" * 30]),
    ("CEILING_WEEK", ["0"]),
    ("CEILING_MONTH", ["two"]),
    ("RECIPIENT_CAP_CREATOR", ["0", "41"]),
    ("RECIPIENT_CAP_SITE", ["-3", "41"]),
    ("S3_BUCKET", ["s3://a", "a/b"]),
    ("S3_ENDPOINT", ["s3.example.org", "https://"]),
    ("S3_REGION", ["a\nb"]),
    ("S3_ACCESS_KEY", ["replace-me"]),
    ("S3_SECRET_KEY", ["replace-me"]),
    ("X_ACCEL_PREFIX", ["protected", "/", "https://a.example/"]),
    ("UPLOAD_MAX_BYTES", ["20GB", "0"]),
    ("UNAPPROVED_UPLOADS", ["20GB", "0"]),
    ("UNAPPROVED_BYTES", ["20GB", "0"]),
    ("UNAPPROVED_COVERS", ["20GB", "0"]),
    ("UNAPPROVED_IMPORTS", ["20GB", "0"]),
    ("UNAPPROVED_ROWS", ["20GB", "0"]),
    ("LOG_LEVEL", ["loud", "info"]),
    ("LOG_FORMAT", ["xml"]),
    ("INSTALLATION_ID", ["a\x1bb"]),
    ("VAR_DIR", [__file__]),
    ("MEDIA_DIR", [__file__]),
    ("STATIC_ROOT", [__file__]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in HOSTILE for value in values])
def test_a_value_that_cannot_be_right_is_refused_by_a_sentence(name: str, value: str) -> None:
    said = [sentence for sentence in refused({name: value}) if sentence.startswith(f"{name} ")]
    assert len(said) == 1
    assert said[0].endswith(".")


def test_no_sentence_tells_a_secret() -> None:
    for name in JUDGES:
        assert "Zq7!hunter" not in " ".join(refused({name: "Zq7!hunter\n//:@"}))


def test_every_setting_has_hostile_values_above() -> None:
    assert {name for name, _values in HOSTILE if not name.startswith("ANYMAIL_")} == set(JUDGES)


def test_every_variable_that_settings_read_is_judged() -> None:
    tree = ast.parse((ROOT / "config" / "settings.py").read_text())
    read = {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).startswith("env.")
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    assert read <= set(JUDGES), "give it a row in config/judging.py, and hostile values above"


def test_what_is_empty_is_not_set() -> None:
    assert refused(dict.fromkeys(JUDGES, " ")) == []


def test_what_is_well_alone_is_not_always_well_together() -> None:
    assert "must not be the same" in refused({"SECRET_KEY": GOOD, "TICKET_KEY": GOOD})[0]
    accelerated = {"X_ACCEL_PREFIX": "/protected/", "VAR_DIR": "/var/lib/largesse"}
    assert "MEDIA_DIR outside" in refused(accelerated)[0]
    assert "MEDIA_DIR outside" in refused(accelerated | {"MEDIA_DIR": "/var/lib/largesse/media"})[0]
    assert refused(accelerated | {"MEDIA_DIR": "/srv/largesse-media"}) == []


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("https://gärten.example/", "https://xn--grten-gra.example"),
        ("https://Straße.Example:8443", "https://xn--strae-oqa.example:8443"),
        ("HTTP://[::1]:8000", "http://[::1]:8000"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://xn--grten-gra.example", "https://xn--grten-gra.example"),
    ],
)
def test_the_site_is_written_as_machines_say_it(said: str, meant: str) -> None:
    assert site(said) == meant
    assert site(meant) == meant


def test_hosts_and_addresses_are_written_so_too() -> None:
    assert hosts("Gärten.example, .example.org,web_1") == ["xn--grten-gra.example", ".example.org", "web_1"]
    assert host("::1") == "::1"
    assert mail_address("mail@gärten.example") == "mail@xn--grten-gra.example"
    assert mail_address("mail@localhost") == "mail@localhost"


def start(tmp_path: Path, **told: str) -> subprocess.CompletedProcess[str]:
    asked = (
        "import django; django.setup(); from django.conf import settings as s;"
        "from django.test import Client; print(s.SITE_URL, s.DEFAULT_FROM_EMAIL, s.SECURE_HSTS_PRELOAD,"
        "s.SECURE_HSTS_INCLUDE_SUBDOMAINS, Client().get('/healthz', headers={'host': s.ALLOWED_HOSTS[0]}).status_code)"
    )
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", asked], cwd=ROOT, text=True, capture_output=True, check=False, timeout=120,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(tmp_path / "var"), "DJANGO_SETTINGS_MODULE": "config.settings", **told},
    )  # fmt: skip


@pytest.mark.slow
def test_nothing_starts_with_the_examples_secrets_and_everything_wrong_is_said_at_once(
    tmp_path: Path,
) -> None:
    example = dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    done = start(tmp_path, **{**example, "VAR_DIR": str(tmp_path), "PORT": "http"})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for name in ("SECRET_KEY", "TICKET_KEY", "DATABASE_URL", "EMAIL_URL", "S3_SECRET_KEY", "PORT"):
        assert f"  {name} " in done.stderr


@pytest.mark.slow
def test_a_site_with_umlauts_answers_itself_and_asks_no_browser_for_more_than_itself(tmp_path: Path) -> None:
    done = start(tmp_path, SITE_URL="https://gärten.example")
    assert done.stdout.split() == [
        "https://xn--grten-gra.example", '"Largesse"', "<mail@xn--grten-gra.example>", "False", "False", "200"
    ], done.stderr  # fmt: skip
    asked = start(tmp_path, HSTS_PRELOAD="true", HSTS_SUBDOMAINS="true")
    assert asked.stdout.split()[-3:] == ["True", "True", "200"]
    folder = tmp_path / "var"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE((folder / key).stat().st_mode) == 0o600 for key in ("secret_key", "ticket_key"))


def test_a_folder_that_stood_open_is_shut(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir(mode=0o755)
    assert stat.S_IMODE(private_folder(tmp_path / "var").stat().st_mode) == 0o700


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    made = kept_secret("SOME_KEY", "", tmp_path)
    assert len(made) >= 32
    assert kept_secret("SOME_KEY", "", tmp_path) == made
    assert kept_secret("SOME_KEY", "given", tmp_path) == "given"


@pytest.mark.parametrize("value", [1, 0, True, False, None, "y", [1.5, 2.5], {"a": [1]}])
def test_the_cache_keeps_text_and_numbers_as_they_are(value: object) -> None:
    kept = Json().dumps(value)
    assert Json().loads(kept if isinstance(kept, bytes) else str(kept).encode()) == value


def test_the_cache_runs_nothing_that_somebody_wrote_there() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        Json().loads(b"cos\nsystem\n(S'true'\ntR.")
