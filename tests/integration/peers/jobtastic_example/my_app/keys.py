"""Converters of significant arguments."""


def rounded(value):
    return str(round(value))
