"""The story of `make demo`: real processes, a real job, and a table of what held."""
