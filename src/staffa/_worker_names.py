"""The names of workers: those that jobs have for them, and where another process finds them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from staffa.errors import InvalidWorker, UnknownWorker

W = TypeVar("W")


class Registry(Generic[W]):
    """Workers by all their names."""

    def __init__(self) -> None:
        self._workers: dict[str, type[W]] = {}

    def add(self, worker: type[W], names: Iterable[str]) -> None:
        """Make a worker known under names. Raises `InvalidWorker` where another one has them."""
        for name in names:
            known = self._workers.get(name)
            if known is not None and _place(known) != _place(worker):
                raise InvalidWorker(
                    f"{_place(worker)} and {_place(known)} are both named {name!r}: rename one of them"
                )
            self._workers[name] = worker

    def find(self, name: str) -> type[W]:
        """Find a worker that was registered; names never lead to an import. Raises `UnknownWorker`."""
        try:
            return self._workers[name]
        except KeyError:
            raise UnknownWorker(
                f"unknown worker {name!r}: no module that this process imported defines it; "
                "name its module in `modules`, or its former name in `aliases`"
            ) from None

    def registered(self) -> Mapping[str, type[W]]:
        """Return all known workers by name, aliases included."""
        return dict(self._workers)


def _place(worker: type) -> str:
    return f"{worker.__module__}.{worker.__qualname__}"


def stored_name(worker: type) -> str:
    """Name a worker as its jobs do, where it gives itself no name. Raises `InvalidWorker`."""
    module = worker.__module__
    if module == "__main__":
        module = _main_module(worker)
    return f"{module}.{worker.__qualname__}"


def home(worker: type) -> str:
    """Name the module from which another process can import a worker. Raises `InvalidWorker`."""
    module = worker.__module__
    if module == "__main__":
        module = _main_module(worker)
    if module == "__main__" or "<locals>" in worker.__qualname__:
        raise InvalidWorker(
            f"{worker.__qualname__} is defined where no other process can import it:"
            ' executor="process" needs a worker at the top of a module'
        )
    return module


def _main_module(worker: type) -> str:
    """Find the name under which another process can import what runs as the main module here."""
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):
        return str(spec.name).removesuffix(".__main__") if spec.name != "__main__" else "__main__"
    if file := getattr(main, "__file__", None):
        return Path(file).stem
    raise InvalidWorker(
        f"{worker.__qualname__} is defined where no other process can import it: "
        "give it a name, as in name='app.jobs.X'"
    )
