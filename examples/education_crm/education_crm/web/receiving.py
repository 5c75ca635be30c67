"""Bytes of recordings from the network onto the disk, within their limits."""

import secrets
from http import HTTPStatus
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from education_crm.files import whole_file
from education_crm.recording_names import CONTENT_TYPES, extension
from education_crm.settings import Settings
from education_crm.web.desk import too_large
from education_crm.web.problems import Problem

BLOCK = 256 * 1024


async def keep_recording(settings: Settings, file: UploadFile) -> Path:
    """Keep a recording sent in one piece until its job takes it; raises Problem for what is none."""
    suffix = extension(file.filename or "")

    if suffix is None:
        kinds = ", ".join(CONTENT_TYPES)
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_type", f"A recording ends in {kinds}.")

    if file.size is not None and file.size > settings.largest_simple_upload:
        raise too_large(settings.largest_simple_upload)

    path = settings.simple_uploads / f"{secrets.token_hex(16)}{suffix}"
    await run_in_threadpool(_keep, file, path)
    return path


async def read_body(request: Request, largest: int) -> bytes:
    """The body of a request, which may have `largest` bytes; raises Problem as soon as it has more."""
    body = bytearray()

    async for block in request.stream():
        body += block

        if len(body) > largest:
            raise too_large(largest)

    return bytes(body)


def _keep(file: UploadFile, path: Path) -> None:
    with whole_file(path) as kept:
        while block := file.file.read(BLOCK):
            kept.write(block)
