"""From a call to its key."""
