import csv
import io

import pytest

from education_crm.import_report import report_lines, safe_cell


@pytest.mark.parametrize("formula", ["=cmd()", "+1", "-1", "@sum", "\tx", "\rx"])
def test_a_spreadsheet_runs_nothing_of_the_report(formula):
    assert safe_cell(formula) == "'" + formula


def test_plain_text_stays_as_it_is():
    assert safe_cell("Asha = Rao") == "Asha = Rao"


def test_the_report_tells_each_failed_row_and_why():
    failed = [
        {"row": 3, "codes": ["name_required", "phone_required"], "name": "", "phone": ""},
        {"row": 7, "codes": ["duplicate_in_file"], "name": '=cmd(),"x"', "phone": "+91 98", "first_row": 2},
    ]
    rows = list(csv.reader(io.StringIO("".join(report_lines(failed)), newline="")))
    assert rows == [
        ["row", "name", "phone", "codes", "reasons"],
        ["3", "", "", "name_required phone_required", "The name is missing. The phone number is missing."],
        [
            "7",
            '\'=cmd(),"x"',
            "'+91 98",
            "duplicate_in_file",
            "The same phone number stands earlier in this file. (row 2)",
        ],
    ]
