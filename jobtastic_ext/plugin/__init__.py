"""What hooks into Celery, and its undoing."""
