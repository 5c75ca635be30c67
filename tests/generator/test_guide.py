"""`staffa new assistant-guide` writes what a coding assistant needs to make a worker in this project."""

import re

from staffa.generator import NewWorker, find_project, new_worker
from staffa.generator.verifying import steps

GUIDE = "docs/commands/new-worker.md"


def test_the_guide_names_the_queues_as_they_are_configured(shop):
    said = shop.new("assistant-guide")

    assert said.code == 0, said.all
    guide = shop.read(GUIDE)
    assert "| `maintenance` | 5 | cleanup, archival |\n| `default` | 10 | not told |\n" in guide
    assert "`src/shop/jobs/send_digest.py` and `tests/jobs/test_send_digest.py`" in guide
    assert "--queue maintenance" in guide


def test_the_commands_of_the_guide_are_those_that_verify(shop, monkeypatch):
    shop.new("assistant-guide")
    monkeypatch.chdir(shop.path)
    project = find_project()
    wanted = NewWorker(name="send-digest", queue="default", purpose="Send digests")

    told = re.findall(r"^python (?!-m staffa).*$", shop.read(GUIDE), re.MULTILINE)

    assert told == [step.shown for step in steps(project, new_worker(project, wanted))]


def test_the_guide_goes_where_it_is_asked_to(shop):
    said = shop.new("assistant-guide", "tools/new-job.md")

    assert said.out == "Wrote tools/new-job.md\n"
    assert shop.read("tools/new-job.md").startswith("# Make a new worker\n")


def test_a_guide_that_is_there_is_not_written_over(shop):
    shop.write(GUIDE, "mine")
    before = shop.tree

    refused = shop.new("assistant-guide")
    assert (refused.code, shop.tree) == (2, before)
    assert f"{GUIDE} is there already; --force writes over" in refused.err

    assert shop.new("assistant-guide", "--force").code == 0
    assert shop.read(GUIDE) != "mine"
