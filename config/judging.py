"""Every setting is judged before anything starts, all of them at once, each refusal a sentence for whoever set it.

Nothing here needs Django: settings are not there yet. No value is repeated, as it may be a secret.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from email.utils import parseaddr
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import environ
import idna
from email_validator import EmailNotValidError, validate_email

from config.proxy import Believed

Judge = Callable[[str], object]
PLACEHOLDER = "replace-me"
SECRET_LETTERS = 32
WORDS = ("true", "yes", "on", "1", "false", "no", "off", "0")


def refused(environment: Mapping[str, str]) -> list[str]:
    """What cannot be used and why, one sentence a variable; nothing if all is well. Empty is as if not set."""
    given = {name: value for name, value in environment.items() if value.strip()}
    sentences = []
    for name in sorted({*JUDGES, *(name for name in given if name.startswith("ANYMAIL_"))} & set(given)):
        if PLACEHOLDER in given[name]:
            sentences.append(f"{name} still says {PLACEHOLDER}: put your own there.")
            continue
        try:
            judge_of(name)(given[name])
        except ValueError as error:
            sentences.append(f"{name} {error}.")
    # What is wrong by itself is said once.
    return sentences or contradictions(given)


def contradictions(given: Mapping[str, str]) -> list[str]:
    """What is well by itself and not together."""
    sentences = []
    if given.get("SECRET_KEY") and given.get("SECRET_KEY") == given.get("TICKET_KEY"):
        sentences.append("SECRET_KEY and TICKET_KEY must not be the same.")
    if given.get("X_ACCEL_PREFIX") and not given.get("S3_BUCKET"):
        media, var = given.get("MEDIA_DIR"), given.get("VAR_DIR")
        if not media or (var and Path(media).resolve().is_relative_to(Path(var).resolve())):
            sentences.append(
                "X_ACCEL_PREFIX needs MEDIA_DIR outside VAR_DIR, which only this server's user may enter."
            )
    return sentences


def judge_of(name: str) -> Judge:
    if name.endswith(("_SEND_DEFAULTS", "_PARAMS")):
        return json_object
    return JUDGES.get(name, one_line)


def one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("has signs in it that cannot be seen")
    return value


def name_of_site(value: str) -> str:
    """It stands before an address in From, between quotation marks."""
    if not value.isprintable() or re.search(r'["\\<>]', value) or len(value) > 80:
        raise ValueError(
            "is a name of up to 80 letters, without quotation marks, backslashes and angle brackets"
        )
    return value


def truth(value: str) -> object:
    return choice(*WORDS)(value.strip().lower())


def choice(*words: str) -> Judge:
    def judge(value: str) -> str:
        if value not in words:
            raise ValueError(f"is one of {', '.join(words)}")
        return value

    return judge


def whole(least: int, most: int) -> Judge:
    def judge(value: str) -> int:
        # Twenty digits are enough for every limit, and int() takes underscores and other alphabets' digits.
        if not re.fullmatch(r"[0-9]{1,20}", value) or not least <= int(value) <= most:
            raise ValueError(f"is a whole number from {least} to {most}")
        return int(value)

    return judge


def number(least: float, most: float) -> Judge:
    def judge(value: str) -> float:
        try:
            found = float(value) if len(value) < 40 else math.nan
        except ValueError:
            found = math.nan
        if not least <= found <= most:
            raise ValueError(f"is a number from {least:g} to {most:g}")
        return found

    return judge


def secret(value: str) -> str:
    if len(value) < SECRET_LETTERS or len(set(value)) < 8:
        raise ValueError(
            f"is at least {SECRET_LETTERS} random characters of your own: `openssl rand -base64 48` makes some"
        )
    return one_line(value)


def secrets(value: str) -> list[str]:
    return [secret(word.strip()) for word in value.split(",") if word.strip()]


def host(value: str) -> str:
    """A host's name as machines say it: IDNA, lower case."""
    words = value.strip().strip("[]")
    try:
        return str(ip_address(words))
    except ValueError:
        pass
    try:
        return idna.encode(words, uts46=True).decode().lower()
    except idna.IDNAError as error:
        # Underscores are no letters of a host, but docker compose makes such names.
        if len(words) < 254 and re.fullmatch(r"\w[\w-]*(\.\w[\w-]*)*", words, re.ASCII):
            return words.lower()
        raise ValueError("names a host that cannot be one") from error


def hosts(value: str) -> list[str]:
    words = [word.strip() for word in value.split(",") if word.strip()]
    if any(re.search(r"[*/:@\s]", word) for word in words if not word.startswith("[")):
        raise ValueError("is a list of host names, separated by commas, without https://, ports and stars")
    return [f".{host(word[1:])}" if word.startswith(".") else host(word) for word in words]


def site(value: str) -> str:
    """The site's address in the one way it is written: a scheme, a host in IDNA, perhaps a port."""
    wanted = "is the address of the site and no more, such as https://gifts.example.org"
    try:
        parts = urlsplit(one_line(value.strip()))
        port = parts.port
    except ValueError as error:
        raise ValueError(wanted) from error
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
        or re.search(r"[\s\\_]", parts.netloc)
    ):
        raise ValueError(wanted)
    name = host(parts.hostname)
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}{f':{port}' if port else ''}"


def web_address(value: str) -> str:
    try:
        parts = urlsplit(one_line(value))
        _port = parts.port
    except ValueError as error:
        raise ValueError("is an address such as https://s3.example.org") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is an address such as https://s3.example.org")
    return value


def mail_address(value: str) -> str:
    """The address in `value`, its domain in IDNA. A machine of one name (mail@localhost) is one, too."""
    address = parseaddr(one_line(value))[1]
    local, at, domain = address.rpartition("@")
    if at and domain == "localhost" and re.fullmatch(r"[\w.+-]+", local, re.ASCII):
        return address
    try:
        found = validate_email(address, allow_smtputf8=False, check_deliverability=False)
    except EmailNotValidError as error:
        raise ValueError("is an e-mail address such as mail@gifts.example.org") from error
    return f"{found.local_part}@{found.ascii_domain}"


def mail_addresses(value: str) -> list[str]:
    try:
        return [mail_address(word) for word in value.split(",") if word.strip()]
    except ValueError as error:
        raise ValueError("is a list of e-mail addresses, separated by commas") from error


def database(value: str) -> str:
    wanted = "is postgres://user:password@host:5432/name, or sqlite:////a/path"
    try:
        parts = urlsplit(value)
        _port = parts.port
        well = parts.scheme in ("postgres", "postgresql", "psql", "pgsql", "sqlite") and parts.path.strip("/")
        if not well:
            raise ValueError(wanted)
        environ.Env.db_url_config(value)
    except (ValueError, KeyError, environ.ImproperlyConfigured) as error:
        raise ValueError(wanted) from error
    return value


def redis(value: str) -> str:
    try:
        parts = urlsplit(value)
        well = parts.scheme in ("redis", "rediss") and parts.hostname and (parts.port or True)
    except ValueError:
        well = False
    if not (well or value.startswith("unix:///")):
        raise ValueError("is redis://:password@host:6379/0")
    return value


def mail_server(value: str) -> str:
    wanted = "is smtp+tls://user:password@host:587 or smtp+ssl://user:password@host:465"
    try:
        parts = urlsplit(value)
        port = parts.port
        environ.Env.email_url_config(value)
    except (ValueError, KeyError, environ.ImproperlyConfigured) as error:
        raise ValueError(wanted) from error
    if parts.scheme.startswith("smtp") and (not parts.hostname or port == 0):
        raise ValueError(wanted)
    return value


def backend(value: str) -> str:
    """A class by its dotted name, its module there."""
    module, _dot, name = value.rpartition(".")
    try:
        found = bool(module and name.isidentifier() and find_spec(module))
    except (ImportError, ValueError):
        found = False
    if not found:
        raise ValueError("is the dotted name of a mail backend that is installed here")
    return value


def json_object(value: str) -> object:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError('is an object in JSON, such as {"MessageStream": "outbound"}')
    return found


def listens_at(value: str) -> str:
    try:
        return value if value == "localhost" else str(ip_address(value))
    except ValueError as error:
        raise ValueError("is an address of this machine, such as 127.0.0.1 or 0.0.0.0") from error


def folder(value: str) -> str:
    try:
        path = Path(one_line(value))
        is_one = path.is_dir() or not path.exists()
    except OSError:
        is_one = False
    if not is_one:
        raise ValueError("is a folder, or where one can be made")
    return value


def internal_path(value: str) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9_/-]*[A-Za-z0-9_-]/", value):
        raise ValueError("is nginx's internal location, such as /protected/")
    return value


def bucket(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}", value):
        raise ValueError("is the name of a bucket")
    return value


JUDGES: dict[str, Judge] = {
    "VAR_DIR": folder,
    "MEDIA_DIR": folder,
    "STATIC_ROOT": folder,
    "DEBUG": truth,
    "SECRET_KEY": secret,
    "SECRET_KEY_FALLBACKS": secrets,
    "TICKET_KEY": secret,
    "METRICS_TOKEN": secret,
    "INSTALLATION_ID": one_line,
    "BIND": listens_at,
    "PORT": whole(0, 65_535),
    "WEB_CONCURRENCY": whole(1, 256),
    "SITE_URL": site,
    "SITE_NAME": name_of_site,
    "ALLOWED_HOSTS": hosts,
    "BEHIND_PROXY": Believed,
    "HSTS_SECONDS": whole(0, 315_360_000),
    "HSTS_SUBDOMAINS": truth,
    "HSTS_PRELOAD": truth,
    "STAFF_MFA": truth,
    "CREATORS": choice("invited", "approved", "open"),
    "DATABASE_URL": database,
    "CONN_MAX_AGE": whole(0, 86_400),
    "REDIS_URL": redis,
    "SWEEP_SECONDS": number(0.01, 3600),
    "EMAIL_URL": mail_server,
    "EMAIL_BACKEND": backend,
    "MAIL_FROM": mail_address,
    "LETTERS_EMAIL_URL": mail_server,
    "LETTERS_EMAIL_BACKEND": backend,
    "LETTERS_FROM": mail_address,
    "LETTERS_ESP_EXTRA": json_object,
    "SEND_LEASE_SECONDS": number(0.01, 86_400),
    "MAIL_RATE": number(0, 1_000_000),
    "ALARM_TO": mail_addresses,
    "SMTP_CONNECTIONS": whole(1, 1000),
    "EVENTS_KEEP_DAYS": whole(1, 36_500),
    "CEILING_WEEK": whole(1, 1000),
    "CEILING_MONTH": whole(1, 1000),
    "RECIPIENT_CAP_CREATOR": whole(1, 40),
    "RECIPIENT_CAP_SITE": whole(1, 40),
    "S3_BUCKET": bucket,
    "S3_ENDPOINT": web_address,
    "S3_REGION": one_line,
    "S3_ACCESS_KEY": one_line,
    "S3_SECRET_KEY": one_line,
    "X_ACCEL_PREFIX": internal_path,
    "UPLOAD_MAX_BYTES": whole(1, 50 * 1024**4),
    "UNAPPROVED_UPLOADS": whole(1, 1000),
    "UNAPPROVED_BYTES": whole(1, 50 * 1024**4),
    "UNAPPROVED_COVERS": whole(1, 100),
    "UNAPPROVED_IMPORTS": whole(1, 1000),
    "UNAPPROVED_ROWS": whole(1, 4_000_000),
    "LOG_LEVEL": choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    "LOG_FORMAT": choice("json", "line"),
}
