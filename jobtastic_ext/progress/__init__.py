"""What a run reports of itself, and what is seen of it."""
