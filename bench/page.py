"""docs/benchmarks.md, written again whenever there are new results; its words are in page.md."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from string import Template

import msgspec

from bench import profile
from bench.environments import DOCS, ROOT, python_of
from bench.processes import Failed, last_line
from bench.results import Results
from bench.rows import ROWS
from bench.table import HEADINGS, lines

NAME = "benchmarks"
KEYS = [row.key for row in ROWS]
PLOTTING = ("matplotlib==3.11.2",)
PLOTS = {
    "peers": "Jobs per second: Staffa, its peers and the raw limits",
    "latency": "From enqueueing to start on an idle queue: how many jobs started within which time",
    "pinned": "Jobs per second over time, with and without a transaction held open",
}


def read(folder: Path = DOCS) -> Results:
    """Read what was measured last."""
    return msgspec.json.decode((folder / f"{NAME}.json").read_bytes(), type=Results)


def keep(results: Results, folder: Path = DOCS) -> None:
    """Keep results; rows that were not measured this time stay as they were."""
    path = folder / f"{NAME}.json"
    if path.exists():
        results = _merged(read(folder), results)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1))


def _merged(before: Results, results: Results) -> Results:
    measured = {row.key for row in results.rows}
    if measured >= {row.key for row in before.rows}:
        return results
    return msgspec.structs.replace(
        results,
        took_minutes=before.took_minutes + results.took_minutes,
        rows=sorted(
            [*(row for row in before.rows if row.key not in measured), *results.rows],
            key=lambda row: KEYS.index(row.key),
        ),
        chosen=before.chosen | results.chosen,
        missing=before.missing | results.missing,
    )


def draw(folder: Path = DOCS) -> None:
    """Draw the plots with a library in an environment of its own. Raises `Unavailable`, `Failed`."""
    done = subprocess.run(
        [str(python_of("plots", PLOTTING)), "-m", "bench.plots", str(folder / NAME)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"drawing: {last_line(done.stderr)}")


def write(folder: Path = DOCS) -> Path:
    """Write the page from the results, with the plots that lie beside them."""
    results = read(folder)
    template = Template(Path(__file__).with_suffix(".md").read_text("utf-8"))
    page = folder / f"{NAME}.md"
    page.write_text(
        template.substitute(
            date=results.date,
            scale=results.scale,
            minutes=round(results.took_minutes),
            met=sum(row.met for row in results.rows),
            rows=len(results.rows),
            machine=_facts(results.machine),
            paces=_paces(results),
            versions=_facts(results.versions),
            settings=_facts(results.settings),
            table=_table(results),
            chosen="; ".join(f"{key}: {setting}" for key, setting in results.chosen.items())
            or "not recorded",
            notes=_notes(results),
            missing=_missing(results),
            plots=_plots(folder),
            profile=_profile(folder),
        ),
        "utf-8",
    )
    return page


def _table(results: Results) -> str:
    cells: list[tuple[str, ...]] = [HEADINGS]
    for row in results.rows:
        cells += [("" if line else row.what, *each) for line, each in enumerate(lines(row))]
    return _in_markdown(cells)


def _paces(results: Results) -> str:
    cells = [("beside", "a bare loop of Python", "a page synced to the disk")]
    for row in (each for each in results.rows if each.paces):
        turns = " and ".join(f"{each.turns / 1e6:.0f}" for each in row.paces)
        syncs = " and ".join(f"{each.sync * 1e6:.0f}" for each in row.paces)
        cells.append((row.what, f"{turns} million turns/s", f"{syncs} µs"))
    return _in_markdown(cells)


def _profile(folder: Path) -> str:
    profiles = profile.read(folder)
    return _in_markdown(profile.rows(profiles)) if profiles else "Not measured."


def _in_markdown(cells: Sequence[tuple[str, ...]]) -> str:
    """Write a table, heading first."""
    heading, *rest = cells
    return "\n".join(f"| {' | '.join(each)} |" for each in (heading, ("---",) * len(heading), *rest))


def _facts(facts: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _notes(results: Results) -> str:
    return "\n".join(dict.fromkeys(f"- {note}" for row in results.rows for note in row.notes))


def _missing(results: Results) -> str:
    if not results.missing:
        return "Everything was measured."
    return "\n".join(f"- {name} was not measured: {why}" for name, why in results.missing.items())


def _plots(folder: Path) -> str:
    return "\n\n".join(
        f"![{title}]({NAME}-{kind}.svg)"
        for kind, title in PLOTS.items()
        if (folder / f"{NAME}-{kind}.svg").exists()
    )
