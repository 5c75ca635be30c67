"""Every snippet and command that the documentation shows is executed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, blocks, documents
from run_page import POSTGRES

LANGUAGES = {"python", "console", "text", "toml", "sql", "ini"}
NEEDS_NO_READER = {"sql.md"}  # test_sql.py runs it on both databases


def named(page):
    return page.name


@pytest.mark.parametrize(
    "page", [each for each in documents() if each.name not in NEEDS_NO_READER], ids=named
)
def test_what_a_page_shows_works_from_top_to_bottom(page, tmp_path, request):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STAFFA_")}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "",
        "PYTEST_DEBUG_TEMPROOT": str(tmp_path),  # a pytest on a page must not touch the folders of this one
        "NO_COLOR": "1",
        "TERM": "dumb",
        "COLUMNS": "110",
    }
    if POSTGRES in page.read_text("utf-8"):
        environment["PAGE_POSTGRES_URL"] = request.getfixturevalue("empty_postgres_url")

    read = subprocess.run(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("run_page.py")), str(page)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )

    assert read.returncode == 0, read.stdout + read.stderr


@pytest.mark.parametrize("page", documents(), ids=named)
def test_a_block_is_in_a_known_language_and_says_why_if_it_is_not_run(page):
    for block in blocks(page.read_text("utf-8")):
        assert block.language in LANGUAGES, f"{page.name}:{block.line} is in {block.language!r}"
        assert block.runs or block.reason, f"{page.name}:{block.line} does not say why it is not run"


@pytest.mark.parametrize("page", documents(), ids=named)
def test_links_lead_to_files_and_headings_that_exist(page):
    for target in links(page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), f"{page.name} links to {target}"


def test_the_index_leads_to_every_page():
    index = set(links((ROOT / "docs" / "index.md").read_text("utf-8")))

    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= index


def links(text):
    """Targets of links inside the project, outside of fenced blocks."""
    prose = "".join(part for part in text.split("```")[::2])
    targets = [piece.partition(")")[0] for piece in prose.split("](")[1:]]
    return [target for target in targets if "://" not in target]


def anchors(text):
    """Names that headings have on a page, as forges make them."""
    prose = "".join(part for part in text.split("```")[::2])
    headings = [line.lstrip("#").strip().lower() for line in prose.splitlines() if line.startswith("#")]
    return {
        "".join(letter for letter in heading if letter.isalnum() or letter in " -_").replace(" ", "-")
        for heading in headings
    }
