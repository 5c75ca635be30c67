"""The CRM's queues, as its one configuration file has them."""

from pathlib import Path
from typing import Final

from staffa import Staffa

CONFIG: Final = Path(__file__).parents[1] / "staffa.toml"


def open_queues(database_url: str) -> Staffa:
    return Staffa.from_config(CONFIG, database=database_url)


def configured_database() -> str:
    return "sqlite:///crm.db"
