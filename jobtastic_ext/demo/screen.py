"""What the one at the terminal sees; plain lines where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

__all__ = ("Bar", "Check", "Screen")


class Check(NamedTuple):
    """One line of the table at the end."""

    act: str
    what: str
    expected: str
    seen: str
    held: bool


class Bar(Protocol):
    """Shows how far a job is."""

    def __call__(self, percent: float, remaining: float) -> None: ...


class Screen:
    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def title(self, text: str) -> None:
        self._console.print(f"[bold]{escape(text)}[/]")

    def act(self, number: int, text: str) -> None:
        self._console.print(f"\n[bold cyan]{number}.[/] [bold]{escape(text)}[/]")

    def say(self, text: str) -> None:
        self._console.print(f"   {escape(text)}")

    def quote(self, text: str) -> None:
        """Show a line that is not ours, unbroken."""
        self._console.print(f"   | {escape(text)}", soft_wrap=True)

    def fail(self, text: str) -> None:
        self._console.print(f"[bold red]{escape(text)}[/]")

    @contextmanager
    def bar(self, name: str) -> Iterator[Bar]:
        """Show a bar; without a terminal, a line for every quarter."""
        if not self._console.is_terminal:
            yield Quarters(self, name)
            return
        columns = (
            TextColumn("   {task.description}"),
            BarColumn(40),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[remaining]}"),
        )
        with Progress(*columns, console=self._console) as progress:
            job = progress.add_task(escape(name), total=100, remaining="")

            def show(percent: float, remaining: float) -> None:
                progress.update(job, completed=percent, remaining=left(remaining))

            yield show

    def table(self, checks: Sequence[Check]) -> None:
        """Show what was expected, what was seen, and whether it held."""
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for heading in ("what happened", "", "expected", "seen", "held?"):
            table.add_column(heading)
        act = ""
        for check in checks:
            held = "[green]yes[/]" if check.held else "[bold red]NO[/]"
            words = (check.act if check.act != act else "", check.what, check.expected, check.seen)
            table.add_row(*map(escape, words), held)
            act = check.act
        self._console.print()
        self._console.print(table)


class Quarters:
    """A progress bar for a file or a pipe."""

    def __init__(self, screen: Screen, name: str) -> None:
        self._screen, self._name, self._shown = screen, name, 0

    def __call__(self, percent: float, remaining: float) -> None:
        quarter = int(percent // 25)
        if quarter > self._shown:
            self._shown = quarter
            self._screen.say(f"{self._name} {percent:.0f} % {left(remaining)}".rstrip())


def left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds > 0 else ""
