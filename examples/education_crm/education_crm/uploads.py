"""Recordings on their way in, chunk by chunk: sessions in the database, bytes in a folder for each.

A chunk's file carries the hash of its content in its name, so a chunk that is sent again, by two
requests at once even, writes the same file again and can never damage another.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from education_crm.files import make_folder, remove_folder, whole_file
from education_crm.recording_names import UPLOAD_ID, clean_filename, extension, new_upload_id
from education_crm.schema import upload_chunks, upload_sessions
from education_crm.settings import Settings

NAMED: Final = 10


class UploadRefused(Exception):
    """An upload cannot go on; `code` is for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Received:
    """What has arrived of an upload."""

    chunks: int
    size: int


@dataclass(frozen=True)
class Chunk:
    """One part of an upload, as the database knows it."""

    index: int
    size: int
    sha256: str

    def file(self, folder: Path) -> Path:
        """Where its bytes are."""
        return folder / f"{self.index}-{self.sha256}"


def open_session(
    connection: Connection, settings: Settings, call_log_id: str, filename: str, now: datetime
) -> str:
    """Begin an upload and return its id; raise UploadRefused for a file that is no recording."""
    if extension(filename) is None:
        raise UploadRefused("unsupported_type", "a recording ends in .aac, .mp3, .m4a, .wav or .ogg")

    upload_id = new_upload_id()
    session = {
        "id": upload_id,
        "call_log_id": call_log_id,
        "filename": clean_filename(filename),
        "inserted_at": now,
        "expires_at": now + settings.upload_lifetime,
    }
    connection.execute(insert(upload_sessions).values(session))
    return upload_id


def find_session(connection: Connection, upload_id: str, *, lock: bool = False) -> Row[Any] | None:
    """The session with this id unless it was cancelled; with `lock`, nobody else changes it meanwhile."""
    if not UPLOAD_ID.fullmatch(upload_id):
        return None

    query = select(upload_sessions).where(
        upload_sessions.c.id == upload_id, upload_sessions.c.status != "cancelled"
    )
    return connection.execute(query.with_for_update() if lock else query).one_or_none()


def folder_of(settings: Settings, upload_id: str) -> Path:
    """The folder of a session's chunks."""
    if not UPLOAD_ID.fullmatch(upload_id):
        raise ValueError("this is no upload id")

    return settings.chunked_uploads / upload_id


def store_chunk(settings: Settings, upload_id: str, index: int, content: bytes) -> Chunk:
    """Put a chunk's bytes safely on disk, before anybody is told of them."""
    chunk = Chunk(index, len(content), hashlib.sha256(content).hexdigest())
    folder = folder_of(settings, upload_id)
    make_folder(folder)

    with whole_file(chunk.file(folder)) as file:
        file.write(content)

    return chunk


def record_chunk(connection: Connection, upload_id: str, chunk: Chunk) -> Received:
    """Count a stored chunk in and return what has arrived; the same bytes again change nothing.

    Raises UploadRefused for other bytes under the same index, and when the session takes no more.
    """
    session = find_session(connection, upload_id, lock=True)

    if session is None:
        raise UploadRefused("upload_not_found", "there is no such upload")

    if session.status != "open":
        raise UploadRefused("upload_closed", "this upload was finalized and takes no more chunks")

    row = {"session_id": upload_id, "chunk_index": chunk.index, "size": chunk.size, "sha256": chunk.sha256}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(upload_chunks).values(row).on_conflict_do_nothing())
    known = connection.execute(
        select(upload_chunks.c.sha256).where(
            upload_chunks.c.session_id == upload_id, upload_chunks.c.chunk_index == chunk.index
        )
    ).scalar_one()

    if known != chunk.sha256:
        raise UploadRefused("chunk_conflict", f"chunk {chunk.index} was sent before with other bytes")

    return received(connection, upload_id)


def received(connection: Connection, upload_id: str) -> Received:
    """How many chunks and bytes have arrived."""
    query = select(func.count(), func.coalesce(func.sum(upload_chunks.c.size), 0)).where(
        upload_chunks.c.session_id == upload_id
    )
    chunks, size = connection.execute(query).one()
    return Received(chunks, size)


def chunks_of(connection: Connection, upload_id: str) -> list[Chunk]:
    """The chunks of a session in their order."""
    columns = (upload_chunks.c.chunk_index, upload_chunks.c.size, upload_chunks.c.sha256)
    query = (
        select(*columns).where(upload_chunks.c.session_id == upload_id).order_by(upload_chunks.c.chunk_index)
    )
    return [Chunk(*row) for row in connection.execute(query)]


def check_complete(chunks: Sequence[Chunk], expected: int) -> None:
    """Raise UploadRefused unless the chunks are exactly 0 to expected - 1 and hold anything at all."""
    indexes = {chunk.index for chunk in chunks}
    missing = [index for index in range(expected) if index not in indexes]

    if missing:
        named = ", ".join(map(str, missing[:NAMED])) + (", …" if len(missing) > NAMED else "")
        raise UploadRefused("incomplete_upload", f"{len(missing)} of {expected} chunks are missing: {named}")

    if len(indexes) > expected:
        raise UploadRefused("chunk_set_mismatch", f"{len(indexes)} chunks arrived, {expected} were expected")

    if not any(chunk.size for chunk in chunks):
        raise UploadRefused("empty_upload", "the recording has no bytes")


def mark_finalizing(connection: Connection, upload_id: str, job_id: int | None) -> None:
    """Take no more chunks; this job puts them together."""
    connection.execute(
        update(upload_sessions)
        .where(upload_sessions.c.id == upload_id)
        .values(status="finalizing", job_id=job_id)
    )


def close_session(connection: Connection, upload_id: str, status: str) -> None:
    """End a session as done or cancelled and forget its chunks; one that is done stays done."""
    closing = update(upload_sessions).where(
        upload_sessions.c.id == upload_id, upload_sessions.c.status != "done"
    )
    connection.execute(closing.values(status=status))
    connection.execute(delete(upload_chunks).where(upload_chunks.c.session_id == upload_id))


def drop_chunk(settings: Settings, upload_id: str, chunk: Chunk, *, because: str) -> None:
    """Remove the file of a chunk that was refused, and a folder that was made for nothing.

    A chunk that came too late is left alone: the same bytes may have come in time, and be needed.
    """
    if because == "upload_closed":
        return

    folder = folder_of(settings, upload_id)
    chunk.file(folder).unlink(missing_ok=True)

    if because == "upload_not_found":
        remove_folder(folder, below=settings.chunked_uploads)
