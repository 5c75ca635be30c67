"""A first office with people in it, for the demo and for trying things out."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final

from sqlalchemy import Connection, select

from education_crm.people import add_branch, add_user
from education_crm.schema import branches, users

PASSWORD: Final = "ask-me-about-leads"  # noqa: S105 - the demo prints it
People = tuple[tuple[str, str], ...]
OFFICES: Final[tuple[tuple[str, str, People], ...]] = (
    (
        "Ameerpet",
        "Hyderabad",
        (
            ("anjali", "Anjali Reddy"),
            ("farhan", "Farhan Ahmed"),
            ("kavya", "Kavya Iyer"),
            ("rohit", "Rohit Sharma"),
            ("sneha", "Sneha Patel"),
        ),
    ),
    ("Benz Circle", "Vijayawada", (("manoj", "Manoj Varma"), ("zoya", "Zoya Khan"))),
)


@dataclass(frozen=True)
class Office:
    """A branch with its telecallers in the order in which they get leads."""

    branch_id: str
    telecaller_ids: tuple[str, ...]


@dataclass(frozen=True)
class Company:
    """Two branches, seven telecallers and an admin; `suffix` ends their names after the first time."""

    admin_id: str
    offices: tuple[Office, ...]
    suffix: str

    @property
    def admin_username(self) -> str:
        """Who may import."""
        return f"admin{self.suffix}"

    @property
    def telecaller_username(self) -> str:
        """Somebody who gets leads."""
        return f"anjali{self.suffix}"


def found_company(connection: Connection) -> Company:
    """Make two branches, seven telecallers and an admin; where some are there already, make new ones."""
    suffix = next(one for one in _suffixes() if _is_free(connection, one))
    admin_id = add_user(connection, f"admin{suffix}", PASSWORD, full_name="Lakshmi Rao", role="admin")
    return Company(admin_id, tuple(_office(connection, office, suffix) for office in OFFICES), suffix)


def _suffixes() -> Iterator[str]:
    return ("" if number == 1 else f"-{number}" for number in count(1))


def _is_free(connection: Connection, suffix: str) -> bool:
    """Whether nobody and nothing has one of the names with this ending."""
    people = [username for _, _, telecallers in OFFICES for username, _ in telecallers]
    usernames = [f"{name}{suffix}" for name in ("admin", *people)]
    offices = [f"{name}{suffix}" for name, _, _ in OFFICES]
    taken = select(users.c.id).where(users.c.username.in_(usernames)).limit(1)
    opened = select(branches.c.id).where(branches.c.name.in_(offices)).limit(1)
    return connection.execute(taken).first() is None and connection.execute(opened).first() is None


def _office(connection: Connection, office: tuple[str, str, People], suffix: str) -> Office:
    name, location, people = office
    branch_id = add_branch(connection, f"{name}{suffix}", location)
    telecallers = (
        add_user(
            connection,
            f"{username}{suffix}",
            PASSWORD,
            full_name=full_name,
            role="telecaller",
            branch_id=branch_id,
        )
        for username, full_name in people
    )
    return Office(branch_id, tuple(telecallers))
