"""Publishing within a deadline, and how far a message is from the head of its queue."""
