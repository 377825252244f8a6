"""The way over from other libraries: what they were told of tasks, said as a policy."""
