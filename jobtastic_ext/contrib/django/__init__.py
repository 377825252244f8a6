"""A page in Django's admin: ``"jobtastic_ext.contrib.django"`` in ``INSTALLED_APPS``."""
