"""Where a CRM keeps its things, as its environment says."""

import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Self

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One CRM's places and limits.

    Workers read and remove temporary files below `temp_root` only; the CRM's own lie in a folder of
    its own there. `fallback_encoding` names how to read CSV files that are not UTF-8; None refuses them.
    """

    database_url: str
    temp_root: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    recordings_root: Path = Path("recordings")
    secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    fallback_encoding: str | None = None
    secure_cookies: bool = False
    upload_lifetime: timedelta = timedelta(hours=24)
    largest_chunk: int = 8 * MEBIBYTE
    largest_simple_upload: int = 64 * MEBIBYTE
    most_chunks: int = 10_000

    @classmethod
    def from_environment(cls, database_url: str, environment: Mapping[str, str] = os.environ) -> Self:
        """The settings that `CRM_…` variables give, and a default for each that is not set."""
        settings = cls(database_url=database_url)

        return cls(
            database_url=database_url,
            temp_root=Path(environment.get("CRM_TEMP_ROOT", settings.temp_root)).absolute(),
            recordings_root=Path(environment.get("CRM_RECORDINGS", settings.recordings_root)).absolute(),
            secret=environment.get("CRM_SECRET", settings.secret),
            fallback_encoding=environment.get("CRM_FALLBACK_ENCODING") or None,
            secure_cookies=environment.get("CRM_SECURE_COOKIES", "") in {"1", "true", "yes"},
        )

    @property
    def workspace(self) -> Path:
        """The CRM's own folder for temporary files."""
        return self.temp_root / "education_crm"

    @property
    def imports(self) -> Path:
        """Where uploaded CSV files wait for their import."""
        return self.workspace / "imports"

    @property
    def simple_uploads(self) -> Path:
        """Where recordings sent in one piece wait."""
        return self.workspace / "recordings"

    @property
    def chunked_uploads(self) -> Path:
        """Where the chunks of recordings wait, one folder for each session."""
        return self.workspace / "uploads"
