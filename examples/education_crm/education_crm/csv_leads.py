"""What a CSV file of leads says: from bytes to good rows and to reasons against the others.

Everything here is pure; the file was read before, and the database is asked later.
"""

import codecs
import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from education_crm.phones import normalise

MAX_BYTES: Final = 10_000_000
MAX_ROWS: Final = 100_000
MAX_NAME: Final = 255
MAX_PHONE: Final = 20
KEPT: Final = 300
PROGRESS_EVERY: Final = 500

NAME_HEADERS: Final = frozenset({"name", "student_name", "student name"})
PHONE_HEADERS: Final = frozenset({"phone", "phone_number", "phone number"})

MESSAGES: Final = {
    "name_required": "The name is missing.",
    "name_too_long": f"The name is longer than {MAX_NAME} characters.",
    "phone_required": "The phone number is missing.",
    "phone_too_long": f"The phone number is longer than {MAX_PHONE} characters.",
    "phone_invalid": "The phone number is not one that can be called.",
    "duplicate_in_file": "The same phone number stands earlier in this file.",
    "lead_exists": "The branch has a lead with this phone number already.",
}


class CsvRefused(Exception):
    """The file as a whole cannot be imported; `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class LeadRow:
    """A row that may become a lead. `row` counts records from 1, the header being the first."""

    row: int
    name: str
    phone: str
    phone_e164: str


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that will not become a lead, with each reason why and the beginnings of its cells.

    `first_row` is where the number of a duplicate stands first.
    """

    row: int
    codes: tuple[str, ...]
    name: str
    phone: str
    first_row: int | None = None


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """All rows of a file that are not blank, in file order, each either good or failed."""

    good: list[LeadRow]
    failed: list[FailedRow]

    @property
    def total(self) -> int:
        """Every row that is not blank."""
        return len(self.good) + len(self.failed)


def silent(current: int, total: int) -> None:
    """Report progress to nobody."""


def parse(
    content: bytes,
    *,
    fallback_encoding: str | None = None,
    report: Callable[[int, int], None] = silent,
) -> ParsedFile:
    """Read the rows of a file, or raise CsvRefused when it is no file of leads.

    Calls `report` with the records read so far and an estimate of all of them now and then.
    A file without any record has no header to miss: it has zero rows.
    """
    if len(content) > MAX_BYTES:
        raise CsvRefused("too_large", f"The file is larger than {MAX_BYTES:,} bytes.")

    text = decode(content, fallback_encoding=fallback_encoding)
    records = _records(text)
    header = next(records, None)

    if header is None:
        return ParsedFile([], [])

    name_column, phone_column = _columns(header[1])
    estimate = max(text.count("\n"), text.count("\r"), 1)
    good: list[LeadRow] = []
    failed: list[FailedRow] = []
    first_rows: dict[str, int] = {}

    for row, cells in records:
        if len(good) + len(failed) == MAX_ROWS:
            raise CsvRefused("too_large", f"The file has more than {MAX_ROWS:,} rows.")

        judged = _judge(row, _cell(cells, name_column), _cell(cells, phone_column), first_rows)

        if isinstance(judged, LeadRow):
            first_rows[judged.phone_e164] = row
            good.append(judged)
        else:
            failed.append(judged)

        if row % PROGRESS_EVERY == 0:
            report(row, max(row, estimate))

    return ParsedFile(good, failed)


def decode(content: bytes, *, fallback_encoding: str | None = None) -> str:
    """The text of a file: UTF-8 with or without a byte order mark, UTF-16 with one, else the fallback."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))

    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        if utf16 or fallback_encoding is None:
            raise CsvRefused(
                "invalid_encoding", "The file is not text in UTF-8; save it as CSV UTF-8."
            ) from error

        try:
            text = content.decode(fallback_encoding)
        except UnicodeDecodeError as again:
            raise CsvRefused(
                "invalid_encoding", f"The file is neither UTF-8 nor {fallback_encoding}."
            ) from again

    if "\0" in text:
        raise CsvRefused("invalid_encoding", "The file holds NUL characters; it is not a CSV file.")

    return text


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Number and trimmed cells of each record that is not blank; blank ones are counted, not given."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)

    try:
        for row, cells in enumerate(reader, start=1):
            trimmed = [cell.strip() for cell in cells]

            if any(trimmed):
                yield row, trimmed
    except csv.Error as error:
        raise CsvRefused("malformed_csv", f"Line {reader.line_num} is not valid CSV: {error}.") from error


def _columns(header: list[str]) -> tuple[int, int]:
    titles = [title.lower() for title in header]
    name = next((place for place, title in enumerate(titles) if title in NAME_HEADERS), None)
    phone = next((place for place, title in enumerate(titles) if title in PHONE_HEADERS), None)

    hint = " Separate the columns by commas." if len(header) == 1 and {";", "\t"} & set(header[0]) else ""

    if name is None:
        raise CsvRefused("missing_name_column", f"The header names no column “name” or “student_name”.{hint}")

    if phone is None:
        raise CsvRefused(
            "missing_phone_column", f"The header names no column “phone” or “phone_number”.{hint}"
        )

    return name, phone


def _cell(cells: list[str], column: int) -> str:
    return cells[column] if column < len(cells) else ""


def _judge(row: int, name: str, phone: str, first_rows: dict[str, int]) -> LeadRow | FailedRow:
    codes: list[str] = []
    phone_e164 = normalise(phone)

    if not name:
        codes.append("name_required")
    elif len(name) > MAX_NAME:
        codes.append("name_too_long")

    if not phone:
        codes.append("phone_required")
    elif len(phone) > MAX_PHONE:
        codes.append("phone_too_long")
    elif phone_e164 is None:
        codes.append("phone_invalid")

    if codes or phone_e164 is None:
        return FailedRow(row, tuple(codes), name[:KEPT], phone[:KEPT])

    if phone_e164 in first_rows:
        return FailedRow(row, ("duplicate_in_file",), name, phone, first_row=first_rows[phone_e164])

    return LeadRow(row, name, phone, phone_e164)
