"""What an operator asks: what is saved, what is held, and to let go of it."""
