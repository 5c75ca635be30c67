"""The job that puts a recording where its call log is."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection
from staffa import Cancel, Job, Snooze, Worker

from education_crm import crm, recordings, uploads
from education_crm.crm import Crm
from education_crm.files import copy_into, is_below, remove_file, remove_folder, whole_file
from education_crm.recording_names import SAFE, UPLOAD_ID, extension, stored_name
from education_crm.recordings import CallLogGone
from education_crm.uploads import Chunk, UploadRefused
from education_crm.workers.arguments import absolute_path, at_least_one, identifier, text

CHUNKED: Final = ("upload_id", "expected_chunks", "call_log_id")
SIMPLE: Final = ("temp_file_path", "call_log_id", "filename")


class Interrupted(Exception):
    """The attempt was asked to stop between two chunks."""


class RecordingProcessorWorker(Worker, queue="recordings", max_attempts=3):
    """Store a recording, from chunks or from one file, and attach it to its call log.

    The stored name follows from the job's arguments alone, so a rerun overwrites what it left itself and
    two workers that race end with one file. Chunks and temporary files stay until the recording is
    attached; a job that is cancelled removes them, one that used up its attempts leaves them for a retry
    by hand, and the sweep takes what nobody retries.
    """

    @classmethod
    def enqueue_chunked(cls, *, upload_id: str, expected_chunks: int, call_log_id: str | UUID) -> Job:
        """Store a job that joins an upload's chunks, counted from 0; raises TypeError or ValueError."""
        return cls.using().enqueue(**cls.chunked(upload_id, expected_chunks, call_log_id))

    @classmethod
    async def aenqueue_chunked(cls, *, upload_id: str, expected_chunks: int, call_log_id: str | UUID) -> Job:
        """As `enqueue_chunked`, where an event loop runs."""
        return await cls.using().aenqueue(**cls.chunked(upload_id, expected_chunks, call_log_id))

    @classmethod
    def enqueue_simple(cls, *, temp_file_path: str | Path, call_log_id: str | UUID, filename: str) -> Job:
        """Store a job that takes one temporary file; raises TypeError or ValueError."""
        return cls.using().enqueue(**cls.simple(temp_file_path, call_log_id, filename))

    @classmethod
    async def aenqueue_simple(
        cls, *, temp_file_path: str | Path, call_log_id: str | UUID, filename: str
    ) -> Job:
        """As `enqueue_simple`, where an event loop runs."""
        return await cls.using().aenqueue(**cls.simple(temp_file_path, call_log_id, filename))

    @staticmethod
    def chunked(upload_id: object, expected_chunks: object, call_log_id: object) -> dict[str, Any]:
        """Arguments of a chunked recording; raises TypeError or ValueError naming the wrong one."""
        if not UPLOAD_ID.fullmatch(text("upload_id", upload_id)):
            raise ValueError(f"upload_id must be the 22 signs that beginning an upload gave: {upload_id!r}")

        return {
            "upload_id": upload_id,
            "expected_chunks": at_least_one("expected_chunks", expected_chunks),
            "call_log_id": identifier("call_log_id", call_log_id),
        }

    @staticmethod
    def simple(temp_file_path: object, call_log_id: object, filename: object) -> dict[str, Any]:
        """Arguments of a recording in one file; raises TypeError or ValueError naming the wrong one."""
        return {
            "temp_file_path": absolute_path("temp_file_path", temp_file_path),
            "call_log_id": identifier("call_log_id", call_log_id),
            "filename": text("filename", filename),
        }

    def perform(self, job: Job) -> Cancel | Snooze | None:
        """Store the recording and attach it."""
        here = crm.current()

        try:
            _process(here, job)
        except UploadRefused as refused:
            return Cancel(f"{refused.code}: {refused}")
        except CallLogGone:
            return Cancel("call_log_not_found: there is no such call log")
        except Interrupted:
            return Snooze(0)

        return None

    def on_cancelled(self, job: Job) -> None:
        """Remove what had arrived: nobody will ask for it again."""
        here = crm.current()
        upload_id = job.args.get("upload_id")
        temp_file = job.args.get("temp_file_path")

        if isinstance(upload_id, str) and UPLOAD_ID.fullmatch(upload_id):
            _abandon(here, upload_id, str(job.args.get("call_log_id")))

        if isinstance(temp_file, str):
            remove_file(Path(temp_file), below=here.settings.temp_root)


def _process(here: Crm, job: Job) -> None:
    if "upload_id" in job.args:
        _process_chunked(here, job)
    elif "temp_file_path" in job.args:
        _process_simple(here, job)
    else:
        raise UploadRefused("bad_args", "neither an upload nor a temporary file is named")


def _process_chunked(here: Crm, job: Job) -> None:
    upload_id, expected, call_log_id = _arguments(job.args, CHUNKED)

    if not isinstance(expected, int) or isinstance(expected, bool) or expected < 1:
        raise UploadRefused("bad_args", "expected_chunks is no whole number from 1")

    with here.database.read() as connection:
        session = uploads.find_session(connection, str(upload_id))

        if session is None:
            raise UploadRefused("upload_not_found", "there is no such upload")

        if session.call_log_id != call_log_id:
            raise UploadRefused("call_log_mismatch", "the upload belongs to another call log")

        name = _name(call_log_id, upload_id, session.filename)
        call_log = recordings.find_call_log(connection, call_log_id)
        chunks = uploads.chunks_of(connection, upload_id)

    if session.status != "done":
        if call_log is None:
            raise CallLogGone(call_log_id)

        uploads.check_complete(chunks, expected)

        try:
            _join(
                uploads.folder_of(here.settings, upload_id), chunks, here.settings.recordings_root / name, job
            )
        except FileNotFoundError:
            if not _done_elsewhere(here, upload_id):
                raise
        else:
            _attach(here, call_log_id, name, upload_id=upload_id)

    remove_folder(uploads.folder_of(here.settings, upload_id), below=here.settings.chunked_uploads)


def _process_simple(here: Crm, job: Job) -> None:
    temp_file_path, call_log_id, filename = _arguments(job.args, SIMPLE)
    source = Path(str(temp_file_path))
    token = f"job-{job.id}" if job.id else hashlib.sha256(bytes(source)).hexdigest()[:22]
    name = _name(call_log_id, token, str(filename))

    if not is_below(source, here.settings.temp_root):
        raise UploadRefused("outside_temp_root", "the file is not where uploads are kept")

    with here.database.read() as connection:
        call_log = recordings.find_call_log(connection, call_log_id)

    if call_log is None:
        raise CallLogGone(call_log_id)

    if source.is_file():
        with whole_file(here.settings.recordings_root / name) as target:
            size = copy_into(source, target)

            if not size:
                raise UploadRefused("empty_upload", "the recording has no bytes")

        _attach(here, call_log_id, name)
        remove_file(source, below=here.settings.temp_root)
    elif call_log.recording_path != name:
        raise UploadRefused("temp_file_not_found", "the uploaded file is gone")


def _join(folder: Path, chunks: list[Chunk], target: Path, job: Job) -> None:
    """Write all chunks in order into one file; what the disk gives back must be what was received."""
    with whole_file(target) as file:
        for chunk in chunks:
            if job.cancelled:
                raise Interrupted

            digest = hashlib.sha256()
            copy_into(chunk.file(folder), file, seen=digest.update)

            if digest.hexdigest() != chunk.sha256:
                raise OSError(f"chunk {chunk.index} is not on disk as it was received")

            job.progress(chunk.index + 1, len(chunks), "joining")


def _attach(here: Crm, call_log_id: str, name: str, *, upload_id: str | None = None) -> None:
    """Make the stored file the call log's recording; afterwards the file it replaces goes."""
    root = here.settings.recordings_root

    try:
        with here.database.write() as connection:
            if upload_id is not None and not _take_session(connection, upload_id):
                return

            replaced = recordings.attach(connection, call_log_id, name)
    except (CallLogGone, UploadRefused):
        recordings.remove_recording(root, name)
        raise

    if replaced:
        recordings.remove_recording(root, replaced)


def _take_session(connection: Connection, upload_id: str) -> bool:
    """End the session, unless another worker did; that one has attached the recording."""
    session = uploads.find_session(connection, upload_id, lock=True)

    if session is None:
        raise UploadRefused("upload_not_found", "the upload was cancelled")

    if session.status == "done":
        return False

    uploads.close_session(connection, upload_id, "done")
    return True


def _done_elsewhere(here: Crm, upload_id: str) -> bool:
    with here.database.read() as connection:
        session = uploads.find_session(connection, upload_id)

    return session is not None and session.status == "done"


def _abandon(here: Crm, upload_id: str, call_log_id: str) -> None:
    with here.database.write() as connection:
        session = uploads.find_session(connection, upload_id, lock=True)

        if session is None or session.call_log_id != call_log_id:
            return

        uploads.close_session(connection, upload_id, "cancelled")

    remove_folder(uploads.folder_of(here.settings, upload_id), below=here.settings.chunked_uploads)


def _arguments(args: Mapping[str, Any], keys: tuple[str, ...]) -> tuple[Any, ...]:
    missing = [key for key in keys if key not in args]

    if missing:
        raise UploadRefused("bad_args", f"missing: {', '.join(missing)}")

    return tuple(args[key] for key in keys)


def _name(call_log_id: object, source: object, filename: str) -> str:
    suffix = extension(filename)

    if suffix is None:
        raise UploadRefused("unsupported_type", "a recording ends in .aac, .mp3, .m4a, .wav or .ogg")

    if not SAFE.fullmatch(str(call_log_id)):
        raise CallLogGone(str(call_log_id))

    return stored_name(str(call_log_id), str(source), suffix)
