"""Tables and files on a terminal, by a library that takes as long to load as everything else."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text


def tell_fitted(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table as wide as the terminal; cells that do not fit are folded."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold", min_width=len(header))
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def tell_files(files: Sequence[tuple[str, str]]) -> None:
    """Write files under their paths, highlighted as what they are."""
    console = Console()
    for path, text in files:
        console.print(Rule(path, align="left"))
        lexer = Syntax.guess_lexer(path, text)
        console.print(Syntax("", lexer, background_color="default").highlight(text), soft_wrap=True)
