from typing import Any, ClassVar, Self

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from rows.lease import Lease, LeaseQuerySet


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **extra: Any) -> "User":
        user = self.model(email=email.strip().lower(), **extra)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **extra: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **extra)


class User(AbstractBaseUser, PermissionsMixin):
    """A person with an account: who you are. Their verified addresses are allauth's EmailAddress rows."""

    email = models.EmailField(_("e-mail address"), max_length=254, unique=True)
    name = models.CharField(_("name"), max_length=120, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(_("installation admin"), default=False)
    date_joined = models.DateTimeField(default=timezone.now, editable=False)
    # Part of what every session is held against: counting it up ends them all.
    session_epoch = models.PositiveIntegerField(default=0, editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return self.name or self.email

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """Django's own hangs on the password alone, which most people here do not have."""
        return salted_hmac(
            "accounts.session", f"{self.password}:{self.session_epoch}", secret=secret, algorithm="sha256"
        ).hexdigest()


class Letter(Lease):
    """One transactional mail (a sign-in code, a notice) to one address, waiting to be sent or sent."""

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")

    kind = models.CharField(max_length=80)
    address_key = models.CharField(max_length=254)
    subject = models.CharField(max_length=200)
    # Emptied once it is sent: it may carry a code.
    text = models.TextField(blank=True)
    code = models.CharField(max_length=20, blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    dedupe_key = models.CharField(max_length=120, unique=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    not_before = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True)

    objects = LeaseQuerySet.as_manager()

    class Meta:
        indexes = [
            # Read by the sweep.
            models.Index(fields=["not_before"], condition=Q(state="waiting"), name="letter_waiting"),
            # Read before each letter that anybody can ask for (accounts.asked).
            models.Index(fields=["address_key", "created_at"], name="letter_to_address"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} #{self.pk}"


class SuppressionQuerySet(models.QuerySet["Suppression"]):
    def live(self) -> Self:
        return self.filter(lifted_at=None)


class Suppression(models.Model):
    """An address that must not be written to, and why; live until lifted."""

    class Reason(models.TextChoices):
        BOUNCE = "bounce", _("mail to it came back")
        COMPLAINT = "complaint", _("its owner reported a mail as spam")
        ADMIN = "admin", _("the installation's admin said so")

    address_key = models.CharField(max_length=254)
    reason = models.CharField(max_length=12, choices=Reason)
    # Whose mail brought it about: the others learn nothing of it. A number, not a key: accounts knows no creators.
    creator_id = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField()
    lifted_at = models.DateTimeField(null=True, blank=True)

    objects = SuppressionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["address_key"], condition=Q(lifted_at=None), name="one_live_suppression_an_address"
            ),
        ]

    def __str__(self) -> str:
        return self.address_key


class AuditEvent(models.Model):
    """Somebody did something that others may ask about: who, for which creator, what, to what, when."""

    actor = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    # A number, not a key: accounts is the ground and knows no creators.
    creator_id = models.BigIntegerField(null=True)
    verb = models.CharField(max_length=40)
    subject = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}"
