import pytest

from education_crm import csv_leads
from education_crm.csv_leads import CsvRefused, FailedRow, LeadRow, parse

GOOD = b"name,phone\nAsha,9876543210\nRavi,9876543211\n"


def refused(content, **options):
    with pytest.raises(CsvRefused) as caught:
        parse(content, **options)

    return caught.value


def names(content, **options):
    return [row.name for row in parse(content, **options).good]


def test_good_rows_keep_what_was_written_beside_what_is_compared():
    assert parse("name,phone\n Asha\u00a0,098765 43210 \n".encode()).good == [
        LeadRow(2, "Asha", "098765 43210", "+919876543210")
    ]


@pytest.mark.parametrize("name", ["name", "NAME", " Student Name ", "student_name"])
@pytest.mark.parametrize("phone", ["phone", "Phone Number", "PHONE_NUMBER", "\u00a0phone"])
def test_headers_go_by_many_names(name, phone):
    assert names(f"{phone},Extra,{name}\n9876543210,x,Asha\n".encode()) == ["Asha"]


def test_the_first_matching_column_wins():
    assert names(b"name,student_name,phone\nAsha,Ravi,9876543210\n") == ["Asha"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n", b"\r"),
        GOOD.decode().encode("utf-16"),
        b"\xfe\xff" + GOOD.decode().encode("utf-16-be"),
    ],
    ids=["bom and crlf", "cr", "utf-16 little endian", "utf-16 big endian"],
)
def test_encodings_and_line_ends_make_no_difference(content):
    assert names(content) == ["Asha", "Ravi"]


def test_latin_1_is_refused_unless_a_fallback_is_configured():
    content = "name,phone\nJosé,9876543210\n".encode("cp1252")
    assert refused(content).code == "invalid_encoding"
    assert names(content, fallback_encoding="cp1252") == ["José"]


def test_nul_and_broken_utf_16_are_refused():
    assert refused(b"name,phone\nA\0sha,9876543210\n").code == "invalid_encoding"
    assert refused(b"\xff\xfen\x00a").code == "invalid_encoding"
    assert refused(b"\xff\xfen\x00a\x00\x00\xd8", fallback_encoding="cp1252").code == "invalid_encoding"


def test_missing_columns_are_named_the_name_first():
    assert refused(b"phone\n9876543210\n").code == "missing_name_column"
    assert refused(b"name\nAsha\n").code == "missing_phone_column"
    assert refused(b"a,b\n1,2\n").code == "missing_name_column"


def test_other_separators_than_commas_are_refused_and_the_reason_says_so():
    for header in (b"name;phone\n", b"name\tphone\n"):
        assert str(refused(header)).endswith("Separate the columns by commas.")
    assert "commas" not in str(refused(b"a,b\n"))


@pytest.mark.parametrize(
    ("content", "line"),
    [(b'name,phone\n"Asha,9876543210\n', 2), (b'name,phone\nA,1\n"A"b,2\n', 3)],
    ids=["unclosed quote", "text after a quote"],
)
def test_broken_quoting_is_refused_and_its_line_named(content, line):
    error = refused(content)
    assert error.code == "malformed_csv"
    assert f"Line {line} " in str(error)


def test_quoted_cells_may_hold_commas_quotes_and_line_ends():
    rows = parse(b'name,phone,note\n"Rao, Asha ""Ash""",9876543210,"two\nlines"\nRavi,9876543211,\n').good
    assert [(row.row, row.name) for row in rows] == [(2, 'Rao, Asha "Ash"'), (3, "Ravi")]


def test_an_empty_file_has_zero_rows():
    for content in (b"", b"\xef\xbb\xbf", b"\n\n", b"name,phone\n"):
        assert parse(content).total == 0


def test_blank_lines_are_ignored_but_counted_in_row_numbers():
    parsed = parse(b"name,phone\n\nAsha,9876543210\n,,\n  , \nRavi,bad\n")
    assert [row.row for row in parsed.good] == [3]
    assert [row.row for row in parsed.failed] == [6]
    assert parsed.total == 2


def test_each_failed_row_says_every_reason():
    content = (
        f"name,phone\n,9876543210\nAsha,\n,\nAsha,12345\n{'x' * 256},98765\nRavi,{'9' * 21}\nshort\n".encode()
    )
    assert [(row.row, row.codes) for row in parse(content.replace(b"\n,\n", b"\n,,x\n")).failed] == [
        (2, ("name_required",)),
        (3, ("phone_required",)),
        (4, ("name_required", "phone_required")),
        (5, ("phone_invalid",)),
        (6, ("name_too_long", "phone_invalid")),
        (7, ("phone_too_long",)),
        (8, ("phone_required",)),
    ]


def test_a_name_of_255_characters_is_kept():
    assert len(names(f"name,phone\n{'é' * 255},9876543210\n".encode())[0]) == 255


def test_a_duplicate_names_the_row_where_its_number_stands_first():
    parsed = parse(b"name,phone\nAsha,9876543210\nRavi,+91 98765-43210\nUma,0091 9876543210\n")
    assert parsed.failed == [
        FailedRow(3, ("duplicate_in_file",), "Ravi", "+91 98765-43210", first_row=2),
        FailedRow(4, ("duplicate_in_file",), "Uma", "0091 9876543210", first_row=2),
    ]


def test_a_number_whose_first_row_failed_is_no_duplicate():
    assert names(b"name,phone\n,9876543210\nRavi,9876543210\n") == ["Ravi"]


def test_too_many_bytes_or_rows_are_refused(monkeypatch):
    assert refused(b"x" * (csv_leads.MAX_BYTES + 1)).code == "too_large"
    monkeypatch.setattr(csv_leads, "MAX_ROWS", 2)
    assert parse(GOOD).total == 2
    assert refused(GOOD + b"Uma,9876543212\n").code == "too_large"


def test_a_cell_beyond_the_field_limit_is_malformed():
    assert refused(b"name,phone\n" + b"x" * 200_000 + b",1\n").code == "malformed_csv"


def test_progress_is_reported_with_an_estimate_that_is_never_below_it(monkeypatch):
    monkeypatch.setattr(csv_leads, "PROGRESS_EVERY", 2)
    told = []
    parse(
        b"name,phone\n" + b"".join(b"A,987654321%d\n" % digit for digit in range(6)),
        report=lambda *now: told.append(now),
    )
    assert told == [(2, 7), (4, 7), (6, 7)]
