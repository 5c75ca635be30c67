"""The CRM's queues, as its one configuration file has them."""

from pathlib import Path
from typing import Final

from staffa import Staffa
from staffa.config import load

CONFIG: Final = Path(__file__).parents[1] / "staffa.toml"


def open_queues(database_url: str) -> Staffa:
    """The queues on a database; connects to nothing yet."""
    return Staffa.from_config(load(CONFIG, flags={"database": database_url}), default=True)


def look_at_queues(database_url: str) -> Staffa:
    """The jobs of a database, only to be looked at; connects to nothing yet."""
    return Staffa.from_config(load(CONFIG, flags={"database": database_url}), run_queues=False)


def configured_database() -> str:
    """The database that the configuration file or the environment names."""
    return load(CONFIG).database
