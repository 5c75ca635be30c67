"""Branches and the people who work there: who may log in, who may import, who may be called upon."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select

from education_crm.passwords import hash_password, verify_password
from education_crm.schema import branches, leads, new_id, users

NOBODY: Final = hash_password("nobody has this password")


@dataclass(frozen=True)
class User:
    """Somebody who is logged in."""

    id: str
    username: str
    full_name: str
    role: str
    branch_id: str | None

    @property
    def is_admin(self) -> bool:
        """Whether this is an admin; everybody else is a telecaller."""
        return self.role == "admin"


USER_COLUMNS: Final = (users.c.id, users.c.username, users.c.full_name, users.c.role, users.c.branch_id)


def add_branch(connection: Connection, name: str, location: str, *, active: bool = True) -> str:
    """Open a branch and return its id."""
    branch_id = new_id()
    connection.execute(insert(branches).values(id=branch_id, name=name, location=location, active=active))
    return branch_id


def add_user(
    connection: Connection,
    username: str,
    password: str,
    *,
    full_name: str,
    role: str,
    branch_id: str | None = None,
    active: bool = True,
) -> str:
    """Let somebody in and return the id; the table refuses a telecaller without a branch."""
    user_id = new_id()
    row = {
        "id": user_id,
        "username": username,
        "full_name": full_name,
        "password_hash": hash_password(password),
        "role": role,
        "branch_id": branch_id,
        "active": active,
    }
    connection.execute(insert(users).values(row))
    return user_id


def authenticate(connection: Connection, username: str, password: str) -> User | None:
    """The active user with this name and password; equally slow when there is none."""
    query = select(*USER_COLUMNS, users.c.password_hash).where(users.c.username == username, users.c.active)
    row = connection.execute(query).one_or_none()
    matches = verify_password(password, row.password_hash if row else NOBODY)
    return _user(row) if row and matches else None


def find_user(connection: Connection, user_id: str) -> User | None:
    """The active user with this id."""
    row = connection.execute(select(*USER_COLUMNS).where(users.c.id == user_id, users.c.active)).one_or_none()
    return _user(row) if row else None


def active_branches(connection: Connection) -> Sequence[Row[Any]]:
    """Every branch that is open, by name, with how many active telecallers it has."""
    here = (users.c.branch_id == branches.c.id) & (users.c.role == "telecaller") & users.c.active
    query = (
        select(
            branches.c.id, branches.c.name, branches.c.location, func.count(users.c.id).label("telecallers")
        )
        .select_from(branches.outerjoin(users, here))
        .where(branches.c.active)
        .group_by(branches.c.id, branches.c.name, branches.c.location)
        .order_by(branches.c.name)
    )
    return connection.execute(query).all()


def active_telecallers(connection: Connection, branch_id: str) -> Sequence[Row[Any]]:
    """The telecallers of a branch who may get leads, by name, with how many they have."""
    query = (
        select(users.c.id, users.c.full_name, func.count(leads.c.id).label("leads"))
        .select_from(users.outerjoin(leads, leads.c.telecaller_id == users.c.id))
        .where(users.c.branch_id == branch_id, users.c.role == "telecaller", users.c.active)
        .group_by(users.c.id, users.c.full_name)
        .order_by(users.c.full_name, users.c.id)
    )
    return connection.execute(query).all()


def names(connection: Connection, user_ids: Sequence[str]) -> dict[str, str]:
    """Full names by id, of those that exist."""
    rows = connection.execute(select(users.c.id, users.c.full_name).where(users.c.id.in_(user_ids)))
    return {row.id: row.full_name for row in rows}


def _user(row: Any) -> User:
    return User(row.id, row.username, row.full_name, row.role, row.branch_id)
