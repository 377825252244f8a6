"""What the one at the terminal sees; plain lines where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

__all__ = ("Bar", "Check", "Screen")

#: Shows how far a job is: percent, and seconds left (-1: nobody knows).
Bar = Callable[[float, float], None]


class Check(NamedTuple):
    """One line of the table at the end."""

    act: str
    what: str
    expected: str
    seen: str
    held: bool


class Screen:
    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def title(self, text: str, style: str = "bold") -> None:
        self._console.print(f"[{style}]{escape(text)}[/]")

    def say(self, text: str) -> None:
        self._console.print(f"   {escape(text)}")

    def quote(self, text: str) -> None:
        """Show a line that is not ours, unbroken."""
        self._console.print(f"   | {escape(text)}", soft_wrap=True)

    @contextmanager
    def bar(self, name: str) -> Iterator[Bar]:
        """Show a bar; without a terminal, a line for every quarter."""
        shown = 0

        def tell(percent: float, remaining: float) -> None:
            nonlocal shown
            if percent // 25 > shown:
                shown = int(percent // 25)
                self.say(f"{name} {percent:.0f} % {left(remaining)}".rstrip())

        if not self._console.is_terminal:
            yield tell
            return
        texts = "   {task.description}", "{task.percentage:>3.0f} %", "{task.fields[remaining]}"
        before, *after = map(TextColumn, texts)
        with Progress(before, BarColumn(40), *after, console=self._console) as progress:
            job = progress.add_task(escape(name), total=100, remaining="")
            yield lambda percent, remaining: progress.update(
                job, completed=percent, remaining=left(remaining)
            )

    def table(self, checks: Sequence[Check]) -> None:
        """Show what was expected, what was seen, and whether it held."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for heading in ("what happened", "", "expected", "seen", "held?"):
            table.add_column(heading)
        for check in checks:
            held = "[green]yes[/]" if check.held else "[bold red]NO[/]"
            table.add_row(*map(escape, check[:4]), held)
        self._console.print()
        self._console.print(table)


def left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds > 0 else ""
