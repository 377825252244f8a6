"""A model without a table, by which the admin knows of the page, and its two permissions."""

from __future__ import annotations

from django.db import models


class Claim(models.Model):  # type: ignore[misc]
    """What the store holds for a call; it is never in a database."""

    key = models.CharField(max_length=255, primary_key=True)

    class Meta:
        managed = False
        default_permissions = ("view",)
        permissions = (("forget_claim", "Can let go of claims"),)
        verbose_name = "claim"
        verbose_name_plural = "savings and claims"
