"""What recordings and uploads are called, so that a rerun finds its own file and nobody escapes a folder."""

import re
import secrets
from pathlib import PurePosixPath
from typing import Final

CONTENT_TYPES: Final = {
    ".aac": "audio/aac",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
}
UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}")
SAFE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
MAX_FILENAME: Final = 255


def new_upload_id() -> str:
    """22 characters that nobody can guess and that any file system can hold."""
    return secrets.token_urlsafe(16)


def clean_filename(filename: str) -> str:
    """The last part of a file name as a browser sent it, without folders or control characters."""
    last = PurePosixPath(filename.replace("\\", "/")).name
    return "".join(sign for sign in last if sign.isprintable())[-MAX_FILENAME:]


def extension(filename: str) -> str | None:
    """The extension in lower case when it is one of a recording, else None."""
    suffix = PurePosixPath(clean_filename(filename)).suffix.lower()
    return suffix if suffix in CONTENT_TYPES else None


def stored_name(call_log_id: str, source: str, suffix: str) -> str:
    """The same name for the same call log and source, always: a rerun overwrites only itself."""
    if not SAFE.fullmatch(call_log_id) or not SAFE.fullmatch(source) or suffix not in CONTENT_TYPES:
        raise ValueError("a recording's name is made of a call log id, a source and a known extension")

    return f"{call_log_id}_{source}{suffix}"
