import subprocess
import sys
from collections import Counter
from pathlib import Path

from education_crm.csv_leads import MESSAGES, parse

DATA = Path(__file__).parents[1] / "data"
SAMPLE = DATA / "leads-10000.csv"


def test_the_generator_writes_the_committed_file_again(tmp_path):
    subprocess.run([sys.executable, DATA / "generate.py", tmp_path / "again.csv"], check=True)
    assert (tmp_path / "again.csv").read_bytes() == SAMPLE.read_bytes()


def test_the_sample_has_ten_thousand_rows_with_every_kind_of_bad_one():
    parsed = parse(SAMPLE.read_bytes())
    reasons = Counter(code for row in parsed.failed for code in row.codes)
    assert parsed.total == 10_000
    assert len(parsed.good) == 9_700
    assert set(reasons) == set(MESSAGES) - {"lead_exists"}
