"""The report of an import as a CSV file that is safe to open in a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from education_crm.csv_leads import MESSAGES

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(text: str) -> str:
    """The text with an apostrophe before anything that a spreadsheet would run as a formula."""
    return "'" + text if text.startswith(FORMULA_STARTS) else text


def report_lines(failed_rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The report, line by line: each failed row with what it held and why it failed."""
    yield _line(["row", "name", "phone", "codes", "reasons"])

    for failed in failed_rows:
        codes = [str(code) for code in failed["codes"]]
        yield _line(
            [
                str(failed["row"]),
                safe_cell(str(failed["name"])),
                safe_cell(str(failed["phone"])),
                " ".join(codes),
                reasons(failed),
            ]
        )


def reasons(failed: Mapping[str, Any]) -> str:
    """Why a row failed, in words."""
    words = " ".join(MESSAGES.get(str(code), str(code)) for code in failed["codes"])
    first_row = failed.get("first_row")
    return f"{words} (row {first_row})" if first_row else words


def _line(cells: list[str]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line).writerow(cells)
    return line.getvalue()
