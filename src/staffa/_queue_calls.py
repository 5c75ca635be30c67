"""What callers say to queues while they run: on one node or on all; blocking, and awaited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from staffa._calls import Calls
from staffa._pauses import ANYWHERE, EVERY
from staffa._signals import EVERYONE, Action, ident
from staffa._spelling import unknown
from staffa.config import QueueConfig, queues_of
from staffa.engine import Engine, ProducerInfo, QueueCheck
from staffa.errors import ConfigError, UnknownNode, UnknownQueue
from staffa.notifier import SIGNAL, Payload


class QueueCalls(Calls):
    """The face of an instance towards those who control queues.

    Everything is said to the whole system, on one node or on all, wherever it is called. A pause is kept in
    the database and outlives restarts. Limits changed, and queues started or stopped, last until a node
    restarts with its configuration.
    """

    name: str
    node: str
    queues: Mapping[str, QueueConfig]

    # Pausing

    def pause_queue(self, queue: str, *, node: str | None = None) -> None:
        """Let a queue take no more jobs, on a node or on all, those that start later too; running jobs go on.

        Raises `UnknownQueue`, `UnknownNode`.
        """
        self._blocking(lambda engine: self._pause(engine, queue, node, paused=True), "pause_queue")

    async def apause_queue(self, queue: str, *, node: str | None = None) -> None:
        """Let a queue take no more jobs; awaited. See `pause_queue`."""
        await self._awaited(lambda engine: self._pause(engine, queue, node, paused=True))

    def resume_queue(self, queue: str, *, node: str | None = None) -> None:
        """Let a queue take jobs again, on a node or on all. Raises `UnknownQueue`, `UnknownNode`."""
        self._blocking(lambda engine: self._pause(engine, queue, node, paused=False), "resume_queue")

    async def aresume_queue(self, queue: str, *, node: str | None = None) -> None:
        """Let a queue take jobs again; awaited. See `resume_queue`."""
        await self._awaited(lambda engine: self._pause(engine, queue, node, paused=False))

    def pause_all_queues(self, *, node: str | None = None) -> None:
        """Let no queue take jobs, on a node or on all, those that are yet to come too. Raises `UnknownNode`."""
        self._blocking(lambda engine: self._pause(engine, EVERY, node, paused=True), "pause_all_queues")

    async def apause_all_queues(self, *, node: str | None = None) -> None:
        """Let no queue take jobs; awaited. See `pause_all_queues`."""
        await self._awaited(lambda engine: self._pause(engine, EVERY, node, paused=True))

    def resume_all_queues(self, *, node: str | None = None) -> None:
        """Let every queue take jobs again, on a node or on all. Raises `UnknownNode`."""
        self._blocking(lambda engine: self._pause(engine, EVERY, node, paused=False), "resume_all_queues")

    async def aresume_all_queues(self, *, node: str | None = None) -> None:
        """Let every queue take jobs again; awaited. See `resume_all_queues`."""
        await self._awaited(lambda engine: self._pause(engine, EVERY, node, paused=False))

    # Limits, starting and stopping

    def scale_queue(self, queue: str, limit: int, *, node: str | None = None) -> None:
        """Let a queue run so many jobs at once on each node, or on one, until it restarts.

        Below the number that run, none is stopped; none starts before there are fewer than the limit. Raises
        `UnknownQueue`, `UnknownNode`, and `ConfigError` for a limit below 1.
        """
        self._blocking(lambda engine: self._scale(engine, queue, limit, node), "scale_queue")

    async def ascale_queue(self, queue: str, limit: int, *, node: str | None = None) -> None:
        """Let a queue run so many jobs at once; awaited. See `scale_queue`."""
        await self._awaited(lambda engine: self._scale(engine, queue, limit, node))

    def start_queue(self, queue: str, limit: int, *, node: str | None = None, paused: bool = False) -> None:
        """Run a queue on all nodes, or on one, until it restarts; nothing happens where it runs already.

        `paused` pauses it first, as `pause_queue` does; otherwise a pause that was said before still counts.
        Raises `UnknownNode`, and `ConfigError` for a name or a limit that is none.
        """
        self._blocking(lambda engine: self._start(engine, queue, limit, node, paused=paused), "start_queue")

    async def astart_queue(
        self, queue: str, limit: int, *, node: str | None = None, paused: bool = False
    ) -> None:
        """Run a queue; awaited. See `start_queue`."""
        await self._awaited(lambda engine: self._start(engine, queue, limit, node, paused=paused))

    def stop_queue(self, queue: str, *, node: str | None = None) -> None:
        """Stop running a queue, as at shutdown, on all nodes or on one, until it restarts.

        Its running jobs have the grace period, and are then put back. Raises `UnknownQueue`, `UnknownNode`.
        """
        self._blocking(lambda engine: self._stop(engine, queue, node), "stop_queue")

    async def astop_queue(self, queue: str, *, node: str | None = None) -> None:
        """Stop running a queue; awaited. See `stop_queue`."""
        await self._awaited(lambda engine: self._stop(engine, queue, node))

    # Looking

    def check_queue(self, queue: str) -> list[QueueCheck]:
        """Tell how a queue runs now, on each node; empty where none runs it. Raises `UnknownQueue`."""
        return self._blocking(lambda engine: self._check(engine, queue), "check_queue")

    async def acheck_queue(self, queue: str) -> list[QueueCheck]:
        """Tell how a queue runs now; awaited. See `check_queue`."""
        return await self._awaited(lambda engine: self._check(engine, queue))

    def check_all_queues(self) -> list[QueueCheck]:
        """Tell how all queues run now, on each node."""
        return self._blocking(_checks, "check_all_queues")

    async def acheck_all_queues(self) -> list[QueueCheck]:
        """Tell how all queues run now; awaited. See `check_all_queues`."""
        return await self._awaited(_checks)

    # What is said

    async def _pause(self, engine: Engine, queue: str, node: str | None, *, paused: bool) -> None:
        await self._refuse_unknown(engine, queue, node)
        await engine.pause(queue, node or ANYWHERE, self._ident(node), paused=paused)

    async def _scale(self, engine: Engine, queue: str, limit: int, node: str | None) -> None:
        _refuse_no_limit(queue, limit)
        await self._refuse_unknown(engine, queue, node)
        await self._tell(engine, Action.SCALE, queue, node, {"limit": limit})

    async def _start(self, engine: Engine, queue: str, limit: int, node: str | None, *, paused: bool) -> None:
        """Tell each node of ours by its name: Elixir's would take jobs whose workers they lack."""
        _refuse_no_limit(queue, limit)
        producers = await engine.producers()
        if node is not None:
            self._refuse_unknown_node(producers, node)
        if paused:
            await engine.pause(queue, node or ANYWHERE, self._ident(node), paused=True)
        for each in [node] if node is not None else sorted(self._nodes(producers)):
            await self._tell(engine, Action.START, queue, each, {"limit": limit, "paused": paused})

    async def _stop(self, engine: Engine, queue: str, node: str | None) -> None:
        _refuse_every(queue)
        await self._refuse_unknown(engine, queue, node)
        await self._tell(engine, Action.STOP, queue, node, {})

    async def _tell(
        self, engine: Engine, action: Action, queue: str, node: str | None, more: Payload
    ) -> None:
        await engine.tell(SIGNAL, [{"action": action, "ident": self._ident(node), "queue": queue, **more}])

    def _ident(self, node: str | None) -> str:
        return EVERYONE if node is None else ident(self.name, node)

    # What is known

    async def _check(self, engine: Engine, queue: str) -> list[QueueCheck]:
        found = [each for each in await _checks(engine) if each.queue == queue]
        if not found:
            await self._refuse_unknown(engine, queue, None)
        return found

    async def _refuse_unknown(self, engine: Engine, queue: str, node: str | None) -> None:
        producers = await engine.producers()
        if node is not None:
            self._refuse_unknown_node(producers, node)
        if queue == EVERY or queue in self.queues or any(each.queue == queue for each in producers):
            return
        known = {*self.queues, *(each.queue for each in producers), *await engine.counts()}
        known |= {each.queue for each in await engine.pauses()} - {EVERY}
        if queue not in known:
            raise UnknownQueue(unknown(str(queue), known, "queue"))

    def _refuse_unknown_node(self, producers: Sequence[ProducerInfo], node: str) -> None:
        if node not in (known := self._nodes(producers)):
            raise UnknownNode(unknown(str(node), known, "node"))

    def _nodes(self, producers: Sequence[ProducerInfo]) -> set[str]:
        return {self.node, *(each.node for each in producers)}


async def _checks(engine: Engine) -> list[QueueCheck]:
    executing = await engine.executing()
    return [
        QueueCheck(
            queue=each.queue,
            node=each.node,
            producer=each.id,
            limit=each.limit,
            paused=each.paused,
            running=tuple(executing.get(each.id, ())),
            started_at=each.started_at,
            beat_at=each.beat_at,
        )
        for each in await engine.producers()
        if not each.expired
    ]


def _refuse_no_limit(queue: str, limit: int) -> None:
    _refuse_every(queue)
    queues_of({queue: QueueConfig(limit)})


def _refuse_every(queue: str) -> None:
    if queue == EVERY:
        raise ConfigError("'*' means every queue; name one")
