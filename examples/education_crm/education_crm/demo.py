"""The demo: a 10,000-row file and a recording in five chunks go through the real queues."""

import asyncio
import hashlib
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from sqlalchemy import func, insert, select, text
from staffa import Job, Staffa, State

from education_crm import leads as lead_words
from education_crm import uploads
from education_crm.clock import utc_now
from education_crm.crm import Crm
from education_crm.csv_leads import MESSAGES, parse
from education_crm.files import make_folder
from education_crm.people import names
from education_crm.schema import call_logs, import_logs, leads, new_id
from education_crm.seeding import Company, found_company
from education_crm.workers import CsvImportWorker, RecordingProcessorWorker

SAMPLE: Final = Path(__file__).parents[1] / "data" / "leads-10000.csv"
KNOWN_ALREADY: Final = 23
CHUNKS: Final = 5
CHUNK: Final = 256 * 1024
GLANCE_SECONDS: Final = 0.05
FINAL: Final = (State.COMPLETED, State.CANCELLED, State.DISCARDED)


@dataclass(frozen=True)
class Recording:
    """A recording that was sent, and the hash it must still have when it is stored."""

    call_log_id: str
    sha256: str


class DemoFailed(Exception):
    """A job of the demo did not complete."""


async def show(crm: Crm, staffa: Staffa, console: Console) -> Company:
    """Do everything once, watch it happen, and sum it up; raises DemoFailed for a job that fails."""
    company = await asyncio.to_thread(_prepare, crm)
    import_job = await _import(crm, staffa, company, console)
    recording, recording_job = await _record(crm, staffa, company, console)
    await asyncio.to_thread(_sum_up, crm, company, recording, [import_job, recording_job], console)
    return company


def _prepare(crm: Crm) -> Company:
    rows = parse(SAMPLE.read_bytes()).good[::400][:KNOWN_ALREADY]

    with crm.database.write() as connection:
        company = found_company(connection)
        office = company.offices[0]
        known = [
            {
                "id": new_id(),
                "branch_id": office.branch_id,
                "telecaller_id": office.telecaller_ids[0],
                "student_name": row.name,
                "phone_number": row.phone,
                "phone_e164": row.phone_e164,
                "inserted_at": utc_now(),
            }
            for row in rows
        ]
        connection.execute(insert(leads), known)

    return company


async def _import(crm: Crm, staffa: Staffa, company: Company, console: Console) -> Job:
    office = company.offices[0]
    file = crm.settings.imports / f"demo-{new_id()}.csv"
    make_folder(file.parent)
    await asyncio.to_thread(shutil.copyfile, SAMPLE, file)
    job = await CsvImportWorker.aenqueue(
        file_path=file,
        telecaller_ids=office.telecaller_ids,
        branch_id=office.branch_id,
        admin_id=company.admin_id,
        filename=SAMPLE.name,
    )
    return await _watch(staffa, job, f"Importing {SAMPLE.name}", console)


async def _record(crm: Crm, staffa: Staffa, company: Company, console: Console) -> tuple[Recording, Job]:
    call_log_id, upload_id, sha256 = await asyncio.to_thread(_send_chunks, crm, company)
    job = await RecordingProcessorWorker.aenqueue_chunked(
        upload_id=upload_id, expected_chunks=CHUNKS, call_log_id=call_log_id
    )
    return Recording(call_log_id, sha256), await _watch(staffa, job, "Joining a recording", console)


def _send_chunks(crm: Crm, company: Company) -> tuple[str, str, str]:
    telecaller_id = company.offices[0].telecaller_ids[0]
    sound = random.Random(company.admin_id).randbytes(CHUNKS * CHUNK)  # noqa: S311 - noise, not a secret

    with crm.database.write() as connection:
        lead = lead_words.page_of_leads(connection, telecaller_id, 1)[0]
        call_log_id = lead_words.log_call(
            connection, lead.id, telecaller_id, outcome="connected", duration_seconds=312, now=utc_now()
        )
        upload_id = uploads.open_session(connection, crm.settings, call_log_id, "call.aac", utc_now())

    for index in range(CHUNKS):
        chunk = uploads.store_chunk(crm.settings, upload_id, index, sound[index * CHUNK :][:CHUNK])

        with crm.database.write() as connection:
            uploads.record_chunk(connection, upload_id, chunk)

    return call_log_id, upload_id, hashlib.sha256(sound).hexdigest()


async def _watch(staffa: Staffa, job: Job, title: str, console: Console) -> Job:
    """Show how far a job is until it ended, and give it back as it is then."""
    columns = (
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        TimeElapsedColumn(),
    )

    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=None, note="waiting")
        latest: Job | None = job

        while latest is not None and latest.state not in FINAL:
            await asyncio.sleep(GLANCE_SECONDS)
            latest = await staffa.aget(job.id or 0)
            told: dict[str, Any] = latest.meta.get("progress") or {} if latest else {}

            if told:
                progress.update(bar, completed=told["current"], total=told["total"], note=told["note"] or "")

        if latest is None or latest.state is not State.COMPLETED:
            raise DemoFailed(
                f"{title}: {latest.state if latest else 'the job is gone'}, {latest and latest.errors}"
            )

        total = progress.tasks[0].total or 1
        progress.update(bar, completed=total, total=total, note="done")

    return latest


def _sum_up(crm: Crm, company: Company, recording: Recording, jobs: list[Job], console: Console) -> None:
    with crm.database.read() as connection:
        log = connection.execute(select(import_logs).where(import_logs.c.job_id == jobs[0].id)).one()
        created = connection.execute(
            select(func.count()).select_from(leads).where(leads.c.import_log_id == log.id)
        ).scalar_one()
        people = names(connection, company.offices[0].telecaller_ids)
        stored = connection.execute(
            select(call_logs.c.recording_path).where(call_logs.c.id == recording.call_log_id)
        ).scalar_one()
        states = connection.execute(
            text("select queue, state, count(*) from oban_jobs group by queue, state order by queue, state")
        ).all()

    console.print(f"\n[bold]{created:,}[/] leads created from {log.total_rows:,} rows of {log.filename}\n")
    console.print(_table("Failed rows", "rows", _reasons(log.error_details["errors"])))
    dealt = [(people[one["telecaller_id"]], one["leads"]) for one in log.distribution]
    console.print(_table("Leads per telecaller", "leads", dealt))
    console.print(
        _table("Jobs in oban_jobs", "jobs", [(f"{queue}: {state}", count) for queue, state, count in states])
    )
    _compare(crm.settings.recordings_root / stored, recording, console)


def _reasons(failed: list[dict[str, Any]]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}

    for row in failed:
        reason = " ".join(MESSAGES[code] for code in row["codes"])
        counts[reason] = counts.get(reason, 0) + 1

    return sorted(counts.items(), key=lambda pair: -pair[1])


def _table(title: str, unit: str, rows: list[tuple[str, int]]) -> Table:
    table = Table(title=title, title_justify="left", show_footer=True, min_width=66, box=SIMPLE_HEAD)
    table.add_column("", footer="all together", ratio=1)
    table.add_column(unit, justify="right", footer=f"{sum(count for _, count in rows):,}")

    for name, count in rows:
        table.add_row(name, f"{count:,}")

    return table


def _compare(file: Path, recording: Recording, console: Console) -> None:
    stored = hashlib.sha256(file.read_bytes()).hexdigest()

    if stored != recording.sha256:
        raise DemoFailed(f"the recording was damaged: sent {recording.sha256}, stored {stored}")

    console.print(f"\nRecording of {file.stat().st_size:,} bytes in {CHUNKS} chunks", highlight=False)
    console.print(f"  sent    sha256 {recording.sha256}", soft_wrap=True)
    console.print(f"  stored  sha256 {stored} [green]the same[/]", soft_wrap=True)
