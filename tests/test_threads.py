"""Threads run what blocks, and answer the loop that asked."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from staffa import _threads
from staffa._threads import Threads

DEADLINE = 10


@pytest.fixture
def threads() -> Iterator[Threads]:
    with closing(Threads("staffa-test")) as threads:
        yield threads


def named(name: str) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith(name)]


async def eventually_gone(name: str) -> None:
    async with asyncio.timeout(DEADLINE):
        while named(name):
            await asyncio.sleep(0.01)


async def test_a_function_runs_in_another_thread_and_its_answer_comes_back(threads: Threads):
    ident, total = await threads.call(lambda *given: (threading.get_ident(), sum(given)), 1, 2).answer
    assert ident != threading.get_ident()
    assert total == 3


async def test_what_a_function_raises_is_raised_where_it_is_awaited(threads: Threads):
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 / 0).answer


async def test_functions_that_block_wait_for_no_other(threads: Threads):
    together = threading.Barrier(20)
    calls = [threads.call(together.wait, DEADLINE) for _ in range(20)]
    assert sorted([await each.answer for each in calls]) == list(range(20))


async def test_what_is_behind_a_function_that_blocks_is_run_by_the_others():
    with closing(Threads("staffa-two", 2)) as threads:
        go_on = threading.Event()
        first = threads.call(go_on.wait, DEADLINE)
        behind = [threads.call(int, number) for number in range(100)]
        assert [await each.answer for each in behind] == list(range(100))
        assert not first.stay.ended
        go_on.set()
        assert await first.answer is True


async def test_a_thread_goes_on_to_the_next_before_others_come(monkeypatch: pytest.MonkeyPatch):
    with closing(Threads("staffa-one")) as threads:
        go_on = threading.Event()
        first = threads.call(go_on.wait, DEADLINE)
        monkeypatch.setattr(threads, "_coming", True)  # one that never comes
        ident = threads.call(threading.get_ident)
        go_on.set()
        await first.answer
        assert await ident.answer != threading.get_ident()
        assert len(named("staffa-one")) == 1


async def test_where_no_more_threads_can_be_made_those_there_are_take_turns(
    monkeypatch: pytest.MonkeyPatch, caplog
):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with closing(Threads("staffa-few")) as threads:
        go_on = threading.Event()
        first = threads.call(go_on.wait, DEADLINE)
        with monkeypatch.context() as refusing:
            refusing.setattr(threading.Thread, "start", refuse)
            second = threads.call(int, 2)
        go_on.set()
        assert (await first.answer, await second.answer) == (True, 2)
    assert "1 threads take turns" in caplog.text


async def test_what_no_thread_can_be_made_for_is_refused_and_never_run(monkeypatch: pytest.MonkeyPatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ran = []
    with closing(Threads("staffa-none")) as threads:
        with monkeypatch.context() as refusing:
            refusing.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="start new thread"):
                threads.call(ran.append, "refused")
        await threads.call(ran.append, "last").answer
    assert ran == ["last"]


async def test_many_bursts_are_all_answered(threads: Threads):
    for size in (1, 2, 3, 50) * 50:
        calls = [threads.call(int, number) for number in range(size)]
        assert [await asyncio.wait_for(each.answer, DEADLINE) for each in calls] == list(range(size))


async def test_no_more_threads_are_made_than_allowed():
    with closing(Threads("staffa-two", 2)) as threads:
        idents = {await each.answer for each in [threads.call(threading.get_ident) for _ in range(50)]}
        assert 1 <= len(idents) <= 2


async def test_whoever_leaves_is_not_answered_and_hears_when_the_thread_is_free(threads: Threads):
    begun, go_on, free = threading.Event(), threading.Event(), asyncio.Event()

    def block() -> None:
        begun.set()
        go_on.wait(DEADLINE)

    call = threads.call(block)
    await asyncio.to_thread(begun.wait, DEADLINE)
    call.answer.cancel()
    assert not call.stay.ended
    call.stay.when_ended(free.set)

    go_on.set()

    await asyncio.wait_for(free.wait(), DEADLINE)
    assert call.stay.ended


async def test_what_nobody_waits_for_any_more_is_not_begun():
    ran = []
    with closing(Threads("staffa-one", 1)) as threads:
        go_on = threading.Event()
        first = threads.call(go_on.wait, DEADLINE)
        left = threads.call(ran.append, "left")
        left.answer.cancel()
        go_on.set()
        await first.answer
        await threads.call(ran.append, "last").answer
    assert ran == ["last"]


async def test_closed_threads_begin_nothing_more_and_end_when_they_are_done():
    go_on, ran = threading.Event(), []
    threads = Threads("staffa-closed", 1)
    busy = threads.call(go_on.wait, DEADLINE)
    waiting = threads.call(ran.append, "waiting")

    threads.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting.answer
    with pytest.raises(RuntimeError, match="dismissed"):
        threads.call(print)
    go_on.set()
    assert await busy.answer is True
    await eventually_gone("staffa-closed")
    assert ran == []


async def test_idle_threads_go_and_others_are_made_when_needed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_threads, "IDLE_SECONDS", 0.01)
    with closing(Threads("staffa-idle")) as threads:
        await threads.call(threading.get_ident).answer
        await eventually_gone("staffa-idle")
        assert await threads.call(lambda: "again").answer == "again"


def test_each_loop_gets_its_own_answers(threads: Threads):
    async def ask(number: int) -> list[int]:
        return [await threads.call(lambda each=each: number * each).answer for each in range(100)]

    found: dict[int, list[int]] = {}
    loops = [
        threading.Thread(target=lambda number=number: found.update({number: asyncio.run(ask(number))}))
        for number in range(4)
    ]
    for each in loops:
        each.start()
    for each in loops:
        each.join(DEADLINE)
    assert found == {number: [number * each for each in range(100)] for number in range(4)}


def test_an_answer_for_a_loop_that_is_gone_harms_nobody(threads: Threads):
    go_on = threading.Event()

    async def leave() -> None:
        threads.call(go_on.wait, DEADLINE)

    asyncio.run(leave())
    go_on.set()

    async def ask() -> str:
        return await threads.call(lambda: "here").answer

    assert asyncio.run(ask()) == "here"
