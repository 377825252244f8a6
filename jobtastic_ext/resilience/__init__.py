"""Outages of servers: what keeps one from costing more than it must.  Knows no Celery."""
