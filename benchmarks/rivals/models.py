from django.db import models


class Mail(models.Model):
    """One mail to one recipient, and whether it went."""

    address = models.CharField(max_length=254)
    name = models.CharField(max_length=200)
    state = models.CharField(max_length=10, default="planned")
    sent_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "rivals"
        constraints = [models.UniqueConstraint(fields=["address"], name="mail_once_an_address")]

    def __str__(self) -> str:
        return self.address
