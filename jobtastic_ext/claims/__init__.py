"""The claim protocol: pure rules over a store's contract; no Celery, no storage."""
