"""One client of Redis whose calls are bounded in time."""
