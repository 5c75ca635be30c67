"""The one CRM of this process: what its workers and its pages share."""

from dataclasses import dataclass
from typing import Self

from education_crm.database import Database
from education_crm.files import make_folder
from education_crm.queues import configured_database
from education_crm.settings import Settings


@dataclass(frozen=True)
class Crm:
    """The settings of a CRM and the way to its database."""

    settings: Settings
    database: Database

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """A CRM with these settings; connects to nothing yet."""
        return cls(settings, Database(settings.database_url))

    def set_up(self) -> None:
        """Make the tables and folders that are not there yet."""
        self.database.create_tables()
        settings = self.settings

        for folder in (
            settings.imports,
            settings.simple_uploads,
            settings.chunked_uploads,
            settings.recordings_root,
        ):
            make_folder(folder)

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()


_installed: list[Crm] = []


def install(crm: Crm) -> None:
    """Make this the CRM of the process: the one that its workers serve."""
    _installed[:] = [crm]


def current() -> Crm:
    """The CRM of this process; where none was installed, the one that the environment describes."""
    if not _installed:
        install(Crm.open(Settings.from_environment(configured_database())))

    return _installed[0]
