"""The result backend, read and written in bounded time."""
