"""Finds tasks that leak memory."""
