"""One file of settings: what differs between a laptop and a server comes from the environment.

With nothing configured this is the *embedded* profile (SQLite, files on disk, Celery over files,
mail into a mailbox page). `.env.example` lists every variable of the *real* one.
"""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from csp.constants import NONCE, NONE, SELF

from config import judging
from config.kept import kept_secret, private_folder
from config.logs import through_one_handler
from config.proxy import SCHEME, Believed

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent
env.read_env(BASE_DIR / ".env")
if wrong := judging.refused(env.ENVIRON):
    sys.exit("Largesse does not start. Mend this in the environment or in .env:\n  " + "\n  ".join(wrong))
for _name in judging.JUDGES:
    # Empty is as if not set.
    if not env.ENVIRON.get(_name, "-").strip():
        del env.ENVIRON[_name]
VAR_DIR = private_folder(Path(env.str("VAR_DIR", default=str(BASE_DIR / "var"))))

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = kept_secret("SECRET_KEY", env.str("SECRET_KEY", default=""), VAR_DIR)
# Keys from before: sessions and second factors of their time are still read.
SECRET_KEY_FALLBACKS = judging.secrets(env.str("SECRET_KEY_FALLBACKS", default=""))
# The ticket's key is its own: rotating the session key must not break a hundred thousand mailed links.
TICKET_KEY = kept_secret("TICKET_KEY", env.str("TICKET_KEY", default=""), VAR_DIR)
# Which installation this is: a database that belongs to another one is a copy, and sends nothing.
INSTALLATION_ID = kept_secret("INSTALLATION_ID", env.str("INSTALLATION_ID", default=""), VAR_DIR)[:64]
# What the database last was is kept here too, so that one put back to an earlier day is known for what it is.
GATE_DIR = VAR_DIR / "gate"

# Where the web server listens. The mailbox page exists only on loopback (A0).
BIND = env.str("BIND", default="127.0.0.1")
PORT = env.int("PORT", default=8000)
# Its host as machines say it: gärten.example is xn--grten-gra.example to browsers, mail and certificates.
SITE_URL = judging.site(env.str("SITE_URL", default=f"http://127.0.0.1:{PORT}"))
_site = urlsplit(SITE_URL)
_loopback = {"127.0.0.1", "localhost", "::1"}
LOOPBACK_SITE = _site.hostname in _loopback
SITE_NAME = env.str("SITE_NAME", default="Largesse")
ALLOWED_HOSTS = [_site.hostname or "localhost", *judging.hosts(env.str("ALLOWED_HOSTS", default=""))]
if LOOPBACK_SITE:
    ALLOWED_HOSTS += ["127.0.0.1", "localhost"]
CSRF_TRUSTED_ORIGINS = [SITE_URL]

INSTALLED_APPS = [
    "config.apps.ConfigConfig",
    "studio",
    "messaging",
    "distribution",
    "library",
    "groups",
    "accounts",
    "rows",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "anymail",
    "csp",
    "django_htmx",
    "django.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.humanize",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "config.proxy.believe_the_proxy",
    "config.middleware.believe_no_claims",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "config.middleware.keep_no_copies",
    "config.middleware.SignInRequired",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "config.middleware.AnswerTooOften",
    "config.middleware.StaffShowTwoThings",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.context.frame",
            ],
        },
    }
]
FORM_RENDERER = "config.renderer.Renderer"

# --- database -----------------------------------------------------------------------------------
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'largesse.sqlite3'}")
}
if "sqlite" in DATABASES["default"]["ENGINE"]:
    # IMMEDIATE and WAL: 0 of 1,200 lock errors where the defaults gave 233.
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA mmap_size=134217728;",
        }
    )
else:
    DATABASES["default"]["CONN_MAX_AGE"] = env.int("CONN_MAX_AGE", default=60)
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- broker and cache -----------------------------------------------------------------------------
REDIS_URL = env.str("REDIS_URL", default="")
if REDIS_URL:
    CACHES: dict[str, dict[str, Any]] = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": REDIS_URL,
            "OPTIONS": {"serializer": "config.cache.Json"},
        }
    }
    CELERY_BROKER_URL = REDIS_URL
else:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.db.DatabaseCache",
            "LOCATION": "django_cache",
            # It keeps the marks of limits: of 300, which is the default, a hundred strangers push everybody's out.
            "OPTIONS": {"MAX_ENTRIES": 200_000},
        }
    }
    # config.broker, one file a wake-up.
    CELERY_BROKER_URL = "files://localhost"
    (VAR_DIR / "wakeups").mkdir(exist_ok=True)
    CELERY_BROKER_TRANSPORT_OPTIONS = {"folder": str(VAR_DIR / "wakeups")}
CELERY_TASK_IGNORE_RESULT = True
# Three queues, so that a long send or a big file never keeps a sign-in code waiting.
CELERY_TASK_DEFAULT_QUEUE = "people"
CELERY_TASK_ROUTES = {
    # Somebody waits for it at a page, and must not wait for a send.
    "messaging.tasks.count_dry_run": {"queue": "people"},
    "messaging.*": {"queue": "mail"},
    "distribution.*": {"queue": "mail"},
    "library.*": {"queue": "files"},
}
# Threads: a worker that is asked to stop tells its senders, who then end between two mails. Forked children do not
# hear of it. And only as much is fetched as is worked on, so nothing lies waiting behind a long send.
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# For ever: without a broker a worker still sweeps.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_TIMEZONE = "UTC"
# Sweeps find what is due in the rows; a lost wake-up costs these seconds and nothing else.
SWEEP_SECONDS = env.float("SWEEP_SECONDS", default=15.0)
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")
CELERY_BEAT_SCHEDULE = {
    name: {"task": name, "schedule": SWEEP_SECONDS, "options": {"expires": SWEEP_SECONDS}}
    for name in (
        "accounts.tasks.sweep",
        "groups.tasks.sweep",
        "library.tasks.sweep",
        "distribution.tasks.sweep",
        "messaging.tasks.sweep",
        "messaging.tasks.send",
    )
}

# --- people -------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/library/"
ACCOUNT_ADAPTER = "config.adapter.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_VERIFICATION_BY_CODE_ENABLED = True
ACCOUNT_LOGIN_BY_CODE_ENABLED = True
ACCOUNT_PASSWORD_RESET_BY_CODE_ENABLED = True
# Digits only: a phone shows its number pad. Three wrong guesses end a code.
ALLAUTH_USER_CODE_FORMAT = {"numeric": True, "length": 6, "dashed": False}
# Of many guesses at one password, as of letters to one address (accounts.services), a day takes few. What answers by
# the page for 429 is a minute's limit: config.views.too_often says so.
ACCOUNT_RATE_LIMITS = {"login_failed": "10/m/ip,5/5m/key,40/d/key"}
ACCOUNT_EMAIL_NOTIFICATIONS = True
# Before an address, the password or a second factor changes: config.again. A sign-in of the last five minutes counts.
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300
# Whether the installation's admins must have a second factor.
STAFF_MFA = env.bool("STAFF_MFA", default=False)
MFA_ADAPTER = "config.second_factor.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_TOTP_ISSUER = SITE_NAME
# The code before and the one after count too: clocks differ, and typing takes time.
MFA_TOTP_TOLERANCE = 1
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = LOOPBACK_SITE
MFA_FORMS = {
    "authenticate": "config.sign_in.AuthenticateForm",
    "reauthenticate": "config.sign_in.ReauthenticateForm",
    "authenticate_webauthn": "config.sign_in.AuthenticateWebAuthnForm",
    "reauthenticate_webauthn": "config.sign_in.ReauthenticateWebAuthnForm",
    "activate_totp": "config.sign_in.ActivateTOTPForm",
}
ACCOUNT_UNIQUE_EMAIL = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_FORMS = {
    "signup": "config.sign_in.SignupForm",
    "login": "config.sign_in.LoginForm",
    "reset_password": "config.sign_in.ResetPasswordForm",
    "set_password": "config.sign_in.SetPasswordForm",
    "add_email": "config.sign_in.AddEmailForm",
    "request_login_code": "config.sign_in.RequestLoginCodeForm",
    "confirm_login_code": "config.sign_in.ConfirmLoginCodeForm",
    "confirm_email_verification_code": "config.sign_in.ConfirmEmailVerificationCodeForm",
    "confirm_password_reset_code": "config.sign_in.ConfirmPasswordResetCodeForm",
}

# --- mail -----------------------------------------------------------------------------------------
# Any Django or anymail backend. With none configured mail lands in the mailbox page and leaves nowhere.
EMAIL_URL = env.str("EMAIL_URL", default="")
if EMAIL_URL:
    vars().update(env.email_url_config(EMAIL_URL))
EMAIL_BACKEND = env.str(
    "EMAIL_BACKEND",
    default="django.core.mail.backends.smtp.EmailBackend" if EMAIL_URL else "config.mailbox.MailboxBackend",
)
EMAIL_TIMEOUT = 20
MAILBOX_DIR = VAR_DIR / "mailbox"
# The mailbox page shows every mail, codes too, to whoever reaches it: it exists on this machine only (A0).
MAILBOX = EMAIL_BACKEND == "config.mailbox.MailboxBackend" and LOOPBACK_SITE and BIND in _loopback
# Who may become a creator (P2): invited (an admin makes them), approved (an admin says yes), open.
CREATORS = env.str("CREATORS", default="open" if MAILBOX else "approved")
ANYMAIL: dict[str, Any] = {
    key.removeprefix("ANYMAIL_"): json.loads(value or "{}")
    if key.endswith(("_SEND_DEFAULTS", "_PARAMS"))
    else value
    for key, value in list(env.ENVIRON.items())
    if key.startswith("ANYMAIL_")
}
ANYMAIL.setdefault("REQUESTS_TIMEOUT", EMAIL_TIMEOUT)
_site_has_a_domain = "." in (_site.hostname or "") and not LOOPBACK_SITE
MAIL_FROM = judging.mail_address(
    env.str("MAIL_FROM", default=f"mail@{_site.hostname if _site_has_a_domain else 'localhost'}")
)
DEFAULT_FROM_EMAIL = f'"{SITE_NAME}" <{MAIL_FROM}>'
SERVER_EMAIL = DEFAULT_FROM_EMAIL
# Letters (sign-in codes, notices) may leave by another way, which no complaint about a release can close. Whatever is
# empty here is as above.
LETTERS_EMAIL_URL = env.str("LETTERS_EMAIL_URL", default="")
LETTERS_EMAIL_BACKEND = env.str(
    "LETTERS_EMAIL_BACKEND",
    default="django.core.mail.backends.smtp.EmailBackend" if LETTERS_EMAIL_URL else "",
)
_letters = env.email_url_config(LETTERS_EMAIL_URL) if LETTERS_EMAIL_URL else {}
LETTERS_OPTIONS: dict[str, Any] = (
    {
        # Neither a name nor TLS of the other way may slip in.
        "host": _letters["EMAIL_HOST"],
        "port": _letters["EMAIL_PORT"],
        "username": _letters["EMAIL_HOST_USER"] or "",
        "password": _letters["EMAIL_HOST_PASSWORD"] or "",
        "use_tls": _letters.get("EMAIL_USE_TLS", False),
        "use_ssl": _letters.get("EMAIL_USE_SSL", False),
    }
    if _letters
    else {}
)
LETTERS_FROM = env.str("LETTERS_FROM", default="")
# What the provider is told beside, such as {"MessageStream": "outbound"} for Postmark.
LETTERS_ESP_EXTRA: dict[str, Any] = json.loads(env.str("LETTERS_ESP_EXTRA", default="") or "{}")
# How long a worker may be silent before others take its mails over: longer than one mail can take, five answers of
# EMAIL_TIMEOUT.
SEND_LEASE_SECONDS = env.float("SEND_LEASE_SECONDS", default=6.0 * EMAIL_TIMEOUT)
if "postgresql" in DATABASES["default"]["ENGINE"]:
    # A worker that is stopped in the middle of a transaction keeps its locks no longer than its lease. Compiling a query
    # first (JIT) costs some 100 ms, starting more processes for it some 10 ms each time, and none of ours earns that back.
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault(
        "options",
        f"-c idle_in_transaction_session_timeout={SEND_LEASE_SECONDS * 1000:.0f}"
        " -c jit=off -c max_parallel_workers_per_gather=0",
    )
# Mails a second for all workers together; 0: as fast as it goes.
MAIL_RATE = env.float("MAIL_RATE", default=0.0)
# Who is told when something needs an operator; empty: the installation's admins.
ALARM_TO = judging.mail_addresses(env.str("ALARM_TO", default=""))
# How many mails one worker hands over at a time, each on a connection of its own: at most so many are in doubt when it
# is killed. Relays count connections; Postfix allows one client 50.
SMTP_CONNECTIONS = env.int("SMTP_CONNECTIONS", default=24)
# How long what providers say about our mails is kept (A5).
EVENTS_KEEP_DAYS = env.int("EVENTS_KEEP_DAYS", default=396)
# The throttle's ceilings (M3): messages in every rolling 7 and 30 days for each group.
CEILING_WEEK = env.int("CEILING_WEEK", default=2)
CEILING_MONTH = env.int("CEILING_MONTH", default=6)
# The recipient's cap (M4): mails to one address in every rolling 7 days, from one creator and from everybody here.
# From 1 to 40, which is as many times as its row can keep.
RECIPIENT_CAP_CREATOR = env.int("RECIPIENT_CAP_CREATOR", default=3)
RECIPIENT_CAP_SITE = env.int("RECIPIENT_CAP_SITE", default=10)

# --- files ------------------------------------------------------------------------------------------
MEDIA_ROOT = Path(env.str("MEDIA_DIR", default=str(VAR_DIR / "media")))
S3_BUCKET = env.str("S3_BUCKET", default="")
S3_ENDPOINT = env.str("S3_ENDPOINT", default="")
S3_REGION = env.str("S3_REGION", default="us-east-1")
S3_ACCESS_KEY = env.str("S3_ACCESS_KEY", default="")
S3_SECRET_KEY = env.str("S3_SECRET_KEY", default="")
# Empty: Django answers Range itself. Otherwise nginx's internal location, for example /protected/.
X_ACCEL_PREFIX = env.str("X_ACCEL_PREFIX", default="")
UPLOAD_MAX_BYTES = env.int("UPLOAD_MAX_BYTES", default=20 * 1024**3)
# What a creator may have whom nobody has approved yet: files on their way at a time, bytes in all, covers at a time.
UNAPPROVED_UPLOADS = env.int("UNAPPROVED_UPLOADS", default=6)
UNAPPROVED_BYTES = env.int("UNAPPROVED_BYTES", default=2 * 1024**3)
UNAPPROVED_COVERS = env.int("UNAPPROVED_COVERS", default=1)
# And lists of people kept at a time, and rows of each.
UNAPPROVED_IMPORTS = env.int("UNAPPROVED_IMPORTS", default=20)
UNAPPROVED_ROWS = env.int("UNAPPROVED_ROWS", default=10_000)
_private_files: dict[str, Any] = {
    "BACKEND": "django.core.files.storage.FileSystemStorage",
    "OPTIONS": {"location": str(MEDIA_ROOT / "private")},
}
if S3_BUCKET:
    _private_files = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "endpoint_url": S3_ENDPOINT or None,
            "region_name": S3_REGION,
            "access_key": S3_ACCESS_KEY or None,
            "secret_key": S3_SECRET_KEY or None,
            "default_acl": None,
            "location": "private",
            "querystring_auth": True,
            # A file being read lies on disk beyond this; the default keeps all of it in memory.
            "max_memory_size": 8 * 1024**2,
        },
    }
STORAGES: dict[str, dict[str, Any]] = {
    # Covers and uploaded import files: never served by a public path.
    "default": _private_files,
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
STATIC_URL = "/static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(VAR_DIR / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"]

# --- words and time -------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
LOCALE_PATHS = [BASE_DIR / "locale"]

# --- safety ---------------------------------------------------------------------------------------
_https = _site.scheme == "https"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_NAME = "__Host-sessionid" if _https else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken" if _https else "csrftoken"
SECURE_SSL_REDIRECT = _https
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=31_536_000 if _https else 0)
# Other sites may live under this name, and what browsers have built in is not taken back: only if asked for.
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("HSTS_SUBDOMAINS", default=False)
SECURE_HSTS_PRELOAD = env.bool("HSTS_PRELOAD", default=False)
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
# Who may read /metrics: whoever carries this; empty: only this machine.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
# One word decides whether a proxy is believed, for the scheme and for who asks alike.
PROXIES = Believed(env.str("BEHIND_PROXY", default="false"))
if PROXIES.anybody:
    SECURE_PROXY_SSL_HEADER = (SCHEME, "https")
SECURE_REFERRER_POLICY = "same-origin"
# For browsers that do not know frame-ancestors (below), which lets our own previews stand in our own pages.
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000
# Above what any form takes, so that the form says its own limit: a pasted list has 1,000,000 characters, and a browser
# writes one of them in up to twelve bytes. (nginx lets twice as much through.)
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024**2
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [SELF],
    }
}

# json, one object a line, or line, for people: at a terminal and where mail stays on this machine.
LOG_FORMAT = env.str("LOG_FORMAT", default="line" if MAILBOX or sys.stderr.isatty() else "json")
LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = through_one_handler(LOG_FORMAT, LOG_LEVEL)
