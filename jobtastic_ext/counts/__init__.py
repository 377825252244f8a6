"""What became of calls and runs, counted by task and hour."""
