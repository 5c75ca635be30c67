"""`staffa new worker` writes a worker and its test that a strict project takes as they are."""

import os
import shutil
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from staffa.config import load

ROOT = Path(__file__).parents[2]
MODULE, TEST = "src/shop/jobs/send_digest.py", "tests/jobs/test_send_digest.py"
DIGEST = ("send-digest", "--queue", "maintenance", "--purpose", "Send digests")
TOOLS = {
    "format": ("ruff", "format", "--check"),
    "lint": ("ruff", "check"),
    "types": ("mypy",),
    "compile": ("compileall", "-q", "-f"),
}


def accepted(folder, *files):
    """Ask each tool of a project about files, and run those that are tests with warnings as errors."""
    asked = {
        name: folder.python("-W", "error", "-m", *command, *files)
        if name == "compile"
        else folder.python("-m", *command, *files)
        for name, command in TOOLS.items()
    }
    tests = [each for each in files if each.startswith("tests")]
    asked["tests"] = folder.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *tests)
    return {name: said.all for name, said in asked.items() if said.code}


# What is written


@pytest.mark.parametrize("way", [(), ("--async",)], ids=["plain", "async"])
def test_both_files_pass_every_tool_untouched(shop, new_worker, way):
    said = new_worker("SendDigest", *way)

    assert said.code == 0, said.all
    assert accepted(shop, MODULE, TEST) == {}
    assert ("async def perform" in shop.read(MODULE)) == bool(way)


def test_names_that_no_line_has_room_for_pass_too(shop, new_worker):
    new_worker("a name that no line of code has room for")

    snake = "a_name_that_no_line_of_code_has_room_for"
    assert accepted(shop, f"src/shop/jobs/{snake}.py", f"tests/jobs/test_{snake}.py") == {}


def test_the_worker_says_its_purpose_its_queue_and_its_attempts(shop, new_worker):
    new_worker("send-digest", "--max-attempts", "5", purpose='send each "branch" its digest')

    text = shop.read(MODULE)
    assert 'class SendDigest(Worker, queue="maintenance", max_attempts=5):\n' in text
    assert '    """Send each "branch" its digest."""\n' in text


def test_three_attempts_are_what_a_worker_has(shop, new_worker):
    new_worker("send-digest")

    assert "max_attempts=3" in shop.read(MODULE)


def test_the_configuration_lists_the_module_and_keeps_the_rest(shop, new_worker):
    before = shop.read("staffa.toml")

    new_worker("send-digest")

    after = shop.read("staffa.toml")
    assert load(shop.path / "staffa.toml").modules == ("shop.jobs.orders", "shop.jobs.send_digest")
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert len(added) == 1
    assert "shop.jobs.send_digest" in added[0]
    assert [line for line in after.splitlines() if line not in added] == before.splitlines()


def test_a_job_of_the_new_worker_runs(shop, new_worker):
    new_worker("send-digest")

    assert shop.staffa("migrate").code == 0
    args = '{"record_id": 7, "mode": "full"}'
    worker = "shop.jobs.send_digest.SendDigest"
    stored = shop.staffa("enqueue", worker, "--args", args)
    ran = shop.staffa("run", "--until-idle")

    assert (stored.code, ran.code) == (0, 0), stored.all + ran.all
    assert "nothing is done yet for 7 (full)" in ran.all
    assert '"completed": 1' in shop.staffa("queues", "list", "--json").out


def test_a_configuration_in_pyproject_is_changed_there(shop, new_worker):
    shop.path.joinpath("staffa.toml").unlink()
    shop.write(
        "pyproject.toml",
        shop.read("pyproject.toml")
        + '\n[tool.staffa] # jobs\ndatabase = "sqlite:///shop.db"\n\n[tool.staffa.generator]\npackage = "shop.jobs"\n',
    )

    said = new_worker("send-digest", "--new-queue", "digests:4", queue=None)

    assert said.code == 0, said.all
    table = tomllib.loads(shop.read("pyproject.toml"))["tool"]["staffa"]
    assert table["queues"] == {"default": 10, "digests": 4}
    assert table["modules"] == ["shop.jobs.send_digest"]
    assert "[tool.staffa] # jobs\n" in shop.read("pyproject.toml")
    assert (shop.path / "tests" / "test_send_digest.py").is_file()


# Refusals, after which every file is as before


def test_files_that_are_there_are_never_written_over(shop, new_worker):
    new_worker("send-digest")
    before = shop.tree

    again = new_worker("SendDigest", purpose="Something else")

    assert again.code == 2
    assert f"{MODULE} and {TEST} are there already" in again.err
    assert shop.tree == before


@pytest.mark.parametrize("there", [MODULE, TEST])
def test_where_one_of_both_is_there_none_is_written(shop, new_worker, there):
    shop.write(there, "mine")
    before = shop.tree

    said = new_worker("send-digest")

    assert said.code == 2
    assert f"{there} is there already" in said.err
    assert shop.tree == before


def test_force_writes_over_both(shop, new_worker):
    shop.write(MODULE, "mine")
    shop.write(TEST, "mine")

    assert new_worker("send-digest", "--force").code == 0
    assert "class SendDigest" in shop.read(MODULE)
    assert "def test_it_processes_a_record" in shop.read(TEST)


@pytest.mark.parametrize(
    "name", ["", "3d_report", "../x", "class", "a.b", "a/b", "..", "job", "Worker", "json"]
)
def test_impossible_names_are_refused(shop, new_worker, name):
    before = shop.tree

    said = new_worker(name)

    assert (said.code, shop.tree) == (2, before)
    assert said.err.startswith("staffa: ")


def test_an_unknown_queue_is_refused_with_the_list_of_queues(shop, new_worker):
    before = shop.tree

    said = new_worker("send-digest", queue="maintenence")

    assert said.code == 2
    assert "unknown queue 'maintenence': " in said.err
    assert "maintenance (limit 5, cleanup, archival); default (limit 10)" in said.err
    assert shop.tree == before


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--max-attempts", "0"), "--max-attempts must be a whole number from 1"),
        (("--new-queue", "digests"), "write a queue with its limit, as in digests:4"),
        (("--new-queue", "digests:0"), "write a queue with its limit, as in digests:4"),
        (("--new-queue", "a:1,b:2"), "write one queue with its limit, as in digests:4"),
        (("--new-queue", "maintenance:9"), "there is a queue maintenance already, with limit 5"),
        (("--new-queue", "digests:4"), "--queue maintenance and --new-queue digests:4 name two queues"),
        (("--purpose", " "), "a purpose is missing"),
        (("--purpose", "x" * 73), "at most 72 characters, and this has 73"),
        (("--purpose", 'a """ b'), "plain sentence"),
        (("--purpose", "a \\ b"), "plain sentence"),
        (("--purpose", '"a" b'), "plain sentence"),
        (("--purpose", "!"), "a purpose is missing"),
    ],
)
def test_options_that_cannot_be_are_refused(shop, new_worker, more, why):
    before = shop.tree

    said = new_worker("send-digest", *more)

    assert (said.code, shop.tree) == (2, before)
    assert why in said.err


def test_a_name_too_long_for_the_table_is_refused(shop, new_worker):
    before = shop.tree

    said = new_worker("a" * 70)

    assert (said.code, shop.tree) == (2, before)
    assert "longer than the 127 characters" in said.err


def test_what_cannot_be_written_leaves_nothing_behind(shop, new_worker):
    shop.write("tests", "a file where a folder is to be")
    before = shop.tree

    said = new_worker("send-digest")

    assert (said.code, shop.tree) == (1, before)
    assert "nothing was written" in said.err


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "there is no staffa.toml here: go where it is, name it with --config"),
        ("[queues]\nmaintenance = 1", "does not say where workers go"),
        ('[queues]\nmaintenance = 1\n[generator]\npackage = "elsewhere"', "there is no folder"),
        ('[queues]\nmaintenance = 1\n[generator]\npackage = "../x"', "must name a package"),
        ('[generator]\npackage = "shop.jobs"\ntemplates = "nowhere"', "there is no folder"),
        ('[generator]\npackge = "shop.jobs"', "did you mean 'package'?"),
    ],
)
def test_a_project_that_does_not_say_where_workers_go_is_told_how_to(shop, new_worker, config, why):
    shop.path.joinpath("staffa.toml").unlink()
    if config is not None:
        shop.write("staffa.toml", config)
    before = shop.tree

    said = new_worker("send-digest")

    assert (said.code, shop.tree) == (2, before)
    assert why in said.err


# New queues


def test_a_new_queue_is_added_and_runs_with_its_limit(shop, new_worker):
    before = shop.read("staffa.toml")

    said = new_worker("send-digest", "--new-queue", "digests:4", queue=None)

    assert said.code == 0, said.all
    assert 'queue="digests"' in shop.read(MODULE)
    after = shop.read("staffa.toml")
    assert set(before.splitlines()) < set(after.splitlines())
    assert shop.staffa("migrate").code == 0
    running = shop.staffa("run", "--until-idle")
    assert "digests (4)" in running.all


# A configuration that others write, too


def test_workers_that_are_made_at_once_are_all_listed(shop):
    names = [f"worker-{number}" for number in range(4)]
    wanted = ("--queue", "default", "--purpose", "Be one of many")

    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda name: shop.staffa("new", "worker", name, *wanted), names))

    assert [each.code for each in made] == [0, 0, 0, 0]
    listed = set(load(shop.path / "staffa.toml").modules)
    assert listed == {"shop.jobs.orders", *(f"shop.jobs.worker_{number}" for number in range(4))}


def test_a_configuration_keeps_who_may_read_it_and_where_it_is(shop, new_worker):
    real = shop.path / "settings" / "real.toml"
    real.parent.mkdir()
    (shop.path / "staffa.toml").replace(real)
    real.chmod(0o600)
    (shop.path / "staffa.toml").symlink_to(real)

    assert new_worker("send-digest").code == 0

    assert (shop.path / "staffa.toml").is_symlink()
    assert real.stat().st_mode & 0o777 == 0o600
    assert "shop.jobs.send_digest" in real.read_text()


def test_a_configuration_keeps_its_line_ends(shop, new_worker):
    file = shop.path / "staffa.toml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))

    assert new_worker("send-digest", "--new-queue", "digests:4", queue=None).code == 0

    assert file.read_bytes().replace(b"\r\n", b"").count(b"\n") == 0
    assert load(file).queues["digests"].limit == 4


@pytest.mark.parametrize(
    "table",
    [
        '[tool.staffa.queues]\ndefault = 5\n\n[tool.other]\nx = 1\n\n[tool.staffa.generator]\npackage = "shop.jobs"\n',
        '[tool.staffa]\nqueues.default = 5\ngenerator.package = "shop.jobs"\n',
        '[tool.staffa]\nqueues = { default = 5 }\ngenerator = { package = "shop.jobs" }\n',
        '[tool]\nstaffa = { queues = { default = 5 }, generator = { package = "shop.jobs" } }\n',
    ],
    ids=["parted", "dotted", "inline", "all inline"],
)
def test_tables_may_be_written_in_any_way_that_toml_has(shop, table):
    shop.path.joinpath("staffa.toml").unlink()
    shop.write("pyproject.toml", table)

    said = shop.new("worker", "send-digest", "--new-queue", "digests:4", "--purpose", "Send digests")

    changed = tomllib.loads(shop.read("pyproject.toml"))["tool"]["staffa"]
    assert said.code == 0, said.all
    assert changed["queues"] == {"default": 5, "digests": 4}
    assert changed["modules"] == ["shop.jobs.send_digest"]


def test_what_cannot_be_changed_without_harm_is_left_and_told(shop, new_worker):
    odd = 'modules = [\n  "a", # first\n  "b" # no comma\n  # last\n]\n'
    shop.write("staffa.toml", odd + '[queues]\nmaintenance = 5\n[generator]\npackage = "shop.jobs"\n')
    before = shop.tree

    said = new_worker("send-digest")

    assert (said.code, shop.tree) == (2, before)
    assert 'add "shop.jobs.send_digest" to modules by hand' in said.err


def test_a_new_queue_stands_behind_the_others_and_before_what_follows(shop, new_worker):
    config = (
        '[queues]\nmaintenance = 5 # slow\n\n# How long.\n[pruner]\n\n[generator]\npackage = "shop.jobs"\n'
    )
    shop.write("staffa.toml", config)

    new_worker("send-digest", "--new-queue", "digests:4", queue=None)

    assert "maintenance = 5 # slow\ndigests = 4\n\n# How long.\n[pruner]\n" in shop.read("staffa.toml")


def test_the_file_counts_whatever_the_environment_says(shop):
    wanted = ("new", "worker", "send-digest", "--purpose", "Send digests")
    other = {"STAFFA_QUEUES": "other:3", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}

    refused = shop.run(sys.executable, "-m", "staffa", *wanted, "--queue", "other", **other)
    made = shop.run(sys.executable, "-m", "staffa", *wanted, "--queue", "default", **other)

    assert (refused.code, made.code) == (2, 0), made.all


def test_a_queue_may_have_any_name_that_toml_can_write(shop, new_worker):
    said = new_worker("send-digest", "--new-queue", 'it\'s "odd" né:4', queue=None)

    assert said.code == 0, said.all
    assert accepted(shop, MODULE, TEST) == {}
    assert load(shop.path / "staffa.toml").queues['it\'s "odd" né'].limit == 4


@pytest.mark.parametrize("name", ["pytest", "perform", "lost", "dict"])
def test_names_that_a_test_knows_otherwise_do_no_harm(shop, new_worker, name):
    new_worker(name)

    assert accepted(shop, f"src/shop/jobs/{name}.py", f"tests/jobs/test_{name}.py") == {}


def test_a_folder_or_a_link_that_leads_nowhere_is_not_written_over(shop, new_worker):
    (shop.path / MODULE).mkdir()
    (shop.path / TEST).parent.mkdir(parents=True)
    (shop.path / TEST).symlink_to(shop.path / "nowhere.py")

    forced, refused = new_worker("send-digest", "--force"), new_worker("send-digest")

    assert (forced.code, refused.code) == (2, 2)
    assert f"{MODULE} is a folder" in forced.err
    (shop.path / MODULE).rmdir()
    assert f"{TEST} is there already" in new_worker("send-digest").err
    assert not [path for path in shop.tree if path.endswith(".draft")]


# Asking, and only showing


def test_on_a_terminal_it_asks_for_what_is_missing(shop):
    said = shop.answering("new", "worker", answers="../x\nsend-digest\n9\n1\nSend digests\n")

    assert said.code == 0, said.all
    assert "1. maintenance (limit 5, cleanup, archival)" in said.out
    assert "2. default (limit 10)" in said.out
    assert "is no name" in said.out
    assert "by its number or its name, not '9'" in said.out
    assert 'queue="maintenance"' in shop.read(MODULE)
    assert '"""Send digests."""' in shop.read(MODULE)


def test_without_a_terminal_it_prints_its_usage(shop):
    before = shop.tree

    said = shop.staffa("new", "worker")

    assert (said.code, shop.tree) == (2, before)
    assert said.err.startswith("Usage: staffa new worker NAME --queue QUEUE --purpose TEXT\n")
    assert "NAME, --queue, --purpose must be given" in said.err


def test_a_dry_run_shows_the_files_and_writes_none(shop, new_worker):
    before = shop.tree

    shown = new_worker("send-digest", "--dry-run").out
    assert shop.tree == before

    new_worker("send-digest")
    for path in (MODULE, TEST, "staffa.toml"):
        assert f"# {path}\n\n{shop.read(path)}" in shown


def test_on_a_terminal_a_dry_run_is_highlighted(shop):
    wanted = ("send-digest", "--queue", "default", "--purpose", "Send digests")

    said = shop.answering("new", "worker", *wanted, "--dry-run")

    assert said.code == 0
    assert "\x1b[" in said.out.partition("class")[0].splitlines()[-1]
    assert MODULE in said.out


# Templates


def test_a_project_may_have_templates_of_its_own(shop, new_worker):
    shop.write("staffa.toml", shop.read("staffa.toml") + 'templates = "templates"\n')
    shop.write("templates/worker.py.jinja", '"""{{ name.pascal }} in {{ queue }}."""\n')

    said = new_worker("send-digest")

    assert said.code == 0, said.all
    assert shop.read(MODULE) == '"""SendDigest in maintenance."""\n'
    assert "def test_it_processes_a_record" in shop.read(TEST)


@pytest.mark.parametrize(
    "template",
    ["{{ nonsense }}", "{% if %}", "{{ name.none.of_it }}", "{{ 1 / 0 }}", "{{ name() }}", "def ("],
)
def test_a_template_that_is_wrong_is_named_with_the_line(shop, new_worker, template):
    shop.write("staffa.toml", shop.read("staffa.toml") + 'templates = "templates"\n')
    shop.write("templates/worker.py.jinja", f'"""Fine."""\n{template}\n')
    before = shop.tree

    said = new_worker("send-digest")

    assert (said.code, shop.tree) == (2, before)
    assert "the template worker.py.jinja" in said.err
    assert "line 2" in said.err


# Verifying


VERIFIED = (*DIGEST, "--verify")


def test_verifying_runs_the_four_steps_in_order(shop):
    said = shop.staffa("new", "worker", *VERIFIED)

    assert said.code == 0, said.all
    both = f"{MODULE} {TEST}"
    assert [line for line in said.out.splitlines() if line.startswith("$ ")] == [
        f"$ python -m pytest -v {TEST}",
        f"$ python -W error -m compileall -q -f {both}",
        f"$ python -m mypy {both}",
        f"$ python -m ruff format {both}",
        f"$ python -m ruff check {both}",
    ]
    assert "test_it_processes_a_record[full] PASSED" in said.out


@pytest.mark.parametrize(
    ("body", "failed", "last"),
    [
        ("raise ValueError\n", "the test failed", "pytest"),
        ('"""\\\\d"""\nX: int = "1"\n', "checking types failed", "mypy"),
        ('"""A module."""\n\nimport os\n', "linting failed", "ruff check"),
    ],
    ids=["test", "types", "lint"],
)
def test_verifying_stops_at_the_first_step_that_fails(shop, body, failed, last):
    shop.write("staffa.toml", shop.read("staffa.toml") + 'templates = "templates"\n')
    shop.write("templates/worker.py.jinja", body)
    shop.write(
        "templates/test_worker.py.jinja",
        '"""A test."""\n\nfrom {{ module }} import __doc__ as told\n\n\n'
        "def test_it() -> None:\n    assert told is not None\n",
    )

    said = shop.staffa("new", "worker", *VERIFIED)

    assert said.code == 1
    assert failed in said.err
    assert last in [line for line in said.out.splitlines() if line.startswith("$ ")][-1]


def test_a_missing_tool_is_a_failure_that_says_how_to_install_it(shop, tmp_path):
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "sitecustomize.py").write_text("import sys\nsys.modules['mypy'] = None\n")

    said = shop.staffa("new", "worker", *VERIFIED, path=lacking)

    assert said.code == 1
    assert "checking types needs mypy, which is not installed here: pip install mypy" in said.err
    assert "ruff" not in said.out


def test_without_the_extra_it_says_what_to_install(shop, tmp_path):
    lacking = tmp_path / "lacking"
    (lacking / "tomlkit").mkdir(parents=True)
    (lacking / "tomlkit" / "__init__.py").write_text("raise ModuleNotFoundError('gone', name='tomlkit')")

    said = shop.staffa("new", "worker", *DIGEST, path=lacking)

    assert said.code == 2
    assert "needs tomlkit, which is not installed: pip install 'staffa[new]'" in said.err


# In an application that is there already


def test_the_crm_takes_a_generated_worker(tmp_path, folder_at):
    """With its own settings of every tool, in a copy of it."""
    here = shutil.copytree(
        ROOT / "examples" / "education_crm",
        tmp_path / "examples" / "education_crm",
        ignore=shutil.ignore_patterns("*.db*", "__pycache__", ".*_cache", "var"),
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    crm = folder_at(here)

    said = crm.staffa(
        "new",
        "worker",
        "LeadDigest",
        "--queue",
        "csv_import",
        "--purpose",
        "Send each branch its leads",
        "--verify",
    )

    assert said.code == 0, said.all
    assert (here / "education_crm" / "workers" / "lead_digest.py").is_file()
    assert (here / "tests" / "test_lead_digest.py").is_file()
