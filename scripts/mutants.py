"""Take one safeguard away at a time and see the test of its promise fail.

Run from the repository: `python scripts/mutants.py [PART OF A PROMISE]`. Each mutant lives in a copy of the
tree; the exit status is 1 where a test passed without its safeguard.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST_SECONDS = 240
LONGEST_TEST_SECONDS = 50
NOT_ENDED = "not ended"
TESTS = (
    "tests/reliability/test_promises.py",
    "tests/properties/test_engines.py",
    "tests/test_cursor.py",
    "tests/test_lifeline.py",
    "tests/test_unique_at_once.py",
    "tests/test_machine.py",
    "tests/test_places.py",
)
SQL = "src/staffa/engines/_sql"
WHAT_LANDS_LATE_RUNS_ON = (
    "src/staffa/_producer.py",
    "                await self._landed()\n        for slot in self._slots.values():\n",
    "                await self._landed()\n        for slot in ():\n",
)


@dataclass(frozen=True)
class Mutant:
    """A promise, the safeguard that keeps it, how to take that away, and the tests that must then fail."""

    promise: str
    safeguard: str
    changes: tuple[tuple[str, str, str], ...]
    tests: str


MUTANTS = [
    Mutant(
        "No accepted job is lost by kill -9",
        "Lifeline takes silent producers for dead",
        (
            (
                "src/staffa/plugins/lifeline.py",
                "expired = await engine.expire(still) if still else []",
                "expired = []",
            ),
        ),
        "lost_by_kill_9",
    ),
    Mutant(
        "No accepted job is lost by a database restart (PostgreSQL)",
        "the table of jobs is logged",
        (
            (
                f"{SQL}/postgres/migrations/000_oban.sql",
                "create table if not exists oban_jobs",
                "create unlogged table if not exists oban_jobs",
            ),
        ),
        "database_restart and postgres",
    ),
    Mutant(
        "No accepted job is lost by a database restart (SQLite)",
        "a failing write is tried again",
        (
            (
                "src/staffa/_producer.py",
                "        except BaseException:\n            self._finished = finished + self._finished\n",
                "        except BaseException:\n",
            ),
        ),
        "end_during_an_outage and sqlite",
    ),
    Mutant(
        "No accepted job is lost by a full disk",
        "outcomes that could not be written are kept and handed in again",
        (
            (
                "src/staffa/_producer.py",
                "        except BaseException:\n            self._finished = finished + self._finished\n",
                "        except BaseException:\n",
            ),
        ),
        "full_disk",
    ),
    Mutant(
        "No accepted job is lost by a lost connection (PostgreSQL)",
        "dead connections are found out before they are used, and outcomes that met one are kept",
        (
            ("src/staffa/engines/postgres.py", "return bool(poll.poll(0))", "return False"),
            (
                "src/staffa/_producer.py",
                "        except BaseException:\n            self._finished = finished + self._finished\n",
                "        except BaseException:\n",
            ),
        ),
        "lost_connection and postgres",
    ),
    Mutant(
        "No accepted job is lost by a lost connection (SQLite)",
        "a broken connection is opened again",
        (
            (
                "src/staffa/engines/_sqlite_writer.py",
                "if group and not self._serve(db, group) and",
                "if group and self._serve(db, group) is None and",
            ),
        ),
        "lost_connection and sqlite",
    ),
    Mutant(
        "No accepted job is lost by shutdown; what was cut off is put back with its attempt returned",
        "attempts are stopped and handed back after the grace period",
        (("src/staffa/_producer.py", "        await self._stop_all(Stop.SHUTDOWN)", "        pass"),),
        "lost_by_shutdown or puts_back",
    ),
    Mutant(
        "A job's effect is recorded once: late acks bounce",
        "the short way of acks is fenced by take",
        (
            (f"{SQL}/postgres/exchange_jobs.sql", "and (id << 20) + take = any(:fences::bigint[])", ""),
            (
                f"{SQL}/sqlite/exchange_jobs.sql",
                "where (id, take) in (select value >> 20, value & 1048575 from json_each(:fences))",
                "where id in (select value >> 20 from json_each(:fences))",
            ),
        ),
        "late_acks_bounce and success",
    ),
    Mutant(
        "A job's effect is recorded once: late acks bounce (failures)",
        "other outcomes are fenced by take",
        (
            (f"{SQL}/postgres/settle_jobs.sql", "and job.take = given.take", ""),
            (f"{SQL}/sqlite/settle_jobs.sql", "and oban_jobs.take = given.take", ""),
        ),
        "late_acks_bounce and failure",
    ),
    Mutant(
        "A job's effect is recorded once: an outcome after a rescue changes nothing",
        "acks are fenced by take and producer",
        (
            (f"{SQL}/postgres/exchange_jobs.sql", "and (id << 20) + take = any(:fences::bigint[])", ""),
            (f"{SQL}/postgres/exchange_jobs.sql", "and attempted_by[2] = :producer", ""),
            (f"{SQL}/postgres/settle_jobs.sql", "and job.take = given.take", ""),
            (
                f"{SQL}/postgres/settle_jobs.sql",
                "and job.attempted_by[2] is not distinct from given.producer",
                "",
            ),
            (
                f"{SQL}/sqlite/exchange_jobs.sql",
                "where (id, take) in (select value >> 20, value & 1048575 from json_each(:fences))",
                "where id in (select value >> 20 from json_each(:fences))",
            ),
            (
                f"{SQL}/sqlite/exchange_jobs.sql",
                (
                    "and (attempted_by = (select json_array(:node, :producer))\n"
                    "    or case when json_valid(attempted_by) then json_extract(attempted_by, '$[1]') end = :producer)"
                ),
                "",
            ),
            (f"{SQL}/sqlite/settle_jobs.sql", "and oban_jobs.take = given.take", ""),
            (
                f"{SQL}/sqlite/settle_jobs.sql",
                (
                    "and case when json_valid(oban_jobs.attempted_by)"
                    " then json_extract(oban_jobs.attempted_by, '$[1]') end is given.producer"
                ),
                "",
            ),
        ),
        "after_a_rescue",
    ),
    Mutant(
        "A failing ack of one job never blocks another",
        "texts of errors are cleaned of what no database takes",
        (
            (
                "src/staffa/engines/_sql/rows.py",
                "[_clean_error(entry) for entry in after.errors]",
                "after.errors",
            ),
        ),
        "failing_ack",
    ),
    Mutant(
        "A malformed notification never stops the machine",
        "payloads that cannot be read are ignored",
        (
            (
                "src/staffa/notifiers/postgres.py",
                "with suppress(ValueError, ",
                "with suppress(ZeroDivisionError, ",
            ),
            (
                "src/staffa/notifier.py",
                "with suppress(ValueError, TypeError, RecursionError):\n        payload",
                "with suppress(ZeroDivisionError):\n        payload",
            ),
        ),
        "malformed_notification and postgres",
    ),
    Mutant(
        "A listener's bug never stops the machine",
        "errors of listeners are logged",
        (("src/staffa/telemetry.py", "except BaseException:", "except ZeroDivisionError:"),),
        "malformed_notification",
    ),
    Mutant(
        "A plugin's error never stops the machine",
        "errors of plugins are logged, and it ticks again",
        (
            ("src/staffa/_repeat.py", "except Exception as error:", "except ZeroDivisionError as error:"),
            ("src/staffa/_kept.py", "await asyncio.sleep(RESTART_SECONDS)", "await asyncio.sleep(3600)"),
        ),
        "malformed_notification",
    ),
    Mutant(
        "The database may go away: nothing runs twice for it (long jobs, an outage, a long write lock)",
        "silence counts only while the judge itself reached the database",
        (("src/staffa/plugins/lifeline.py", "            self._since.clear()", "            pass"),),
        "silence_counts",
    ),
    Mutant(
        "The database may go away: workers resume by themselves",
        "a queue waits for the database and tries again",
        (
            (
                "src/staffa/_producer.py",
                (
                    "        except Exception as error:"
                    "  # noqa: BLE001 - whatever is wrong with the database, try again\n"
                    "            await self._wait_for_database(error)"
                ),
                "        except ZeroDivisionError as error:\n            await self._wait_for_database(error)",
            ),
            ("src/staffa/_kept.py", "await asyncio.sleep(RESTART_SECONDS)", "await asyncio.sleep(3600)"),
        ),
        "end_during_an_outage",
    ),
    Mutant(
        "A blocked event loop makes nobody look dead",
        "the heart beats in a thread of its own",
        (
            (
                "src/staffa/_heart.py",
                "            if producers:\n",
                "            if producers and time.monotonic() - self._answered < 3 * self._interval:\n",
            ),
        ),
        "blocks_its_event_loop",
    ),
    Mutant(
        "A process that was taken for dead goes on under a new id",
        "a producer hears that it expired",
        (("src/staffa/_producer.py", "            self._expired = True\n", "            pass\n"),),
        "own_funeral",
    ),
    Mutant(
        "Shutdown waits the grace period",
        "running jobs are waited for",
        (
            (
                "src/staffa/_producer.py",
                "while not self.idle and time.monotonic() < deadline:",
                "while False:",
            ),
        ),
        "waits_the_grace_period",
    ),
    Mutant(
        "Threads that cannot be stopped are left to Lifeline",
        "Lifeline rescues what a stopped producer left",
        (
            (
                "src/staffa/plugins/lifeline.py",
                "rescued = await engine.rescue(self.limit)",
                "rescued = await engine.rescue(0)",
            ),
        ),
        "left_to_lifeline",
    ),
    Mutant(
        "Bad input gets an error and nothing is written",
        "jobs are admitted before anything is written",
        (
            (
                "src/staffa/_job_calls.py",
                "admissible = all_admitted(jobs)\n        stored = await",
                "admissible = list(jobs)\n        stored = await",
            ),
        ),
        "bad_input and InvalidJob",
    ),
    Mutant(
        "Bad input gets an error and nothing is written (arguments)",
        "arguments are checked when a job is built, and again before anything is written",
        (
            (
                "src/staffa/_arguments.py",
                "        return json_object(given)\n",
                "        return dict(given)\n",
            ),
            (
                "src/staffa/_job_calls.py",
                "admissible = all_admitted(jobs)\n        stored = await",
                "admissible = list(jobs)\n        stored = await",
            ),
        ),
        "bad_input and InvalidArguments",
    ),
    Mutant(
        "Whatever happens in whatever order: late outcomes change nothing",
        "plain outcomes are fenced by take",
        (
            (f"{SQL}/postgres/exchange_jobs.sql", "and (id << 20) + take = any(:fences::bigint[])", ""),
            (
                f"{SQL}/sqlite/exchange_jobs.sql",
                "where (id, take) in (select value >> 20, value & 1048575 from json_each(:fences))",
                "where id in (select value >> 20 from json_each(:fences))",
            ),
        ),
        "whatever_happens",
    ),
    Mutant(
        "Whatever happens in whatever order: late failures change nothing",
        "other outcomes are fenced by take",
        (
            (f"{SQL}/postgres/settle_jobs.sql", "and job.take = given.take", ""),
            (f"{SQL}/sqlite/settle_jobs.sql", "and oban_jobs.take = given.take", ""),
        ),
        "whatever_happens",
    ),
    Mutant(
        "Whatever happens in whatever order: a rescue does not cost an attempt",
        "rescue gives the attempt back",
        (
            (
                "src/staffa/_lifecycle.py",
                "back = replace(job, attempt=max(job.attempt - 1, 0), ",
                "back = replace(job, ",
            ),
        ),
        "whatever_happens",
    ),
    Mutant(
        "Whatever happens in whatever order: who beats is not taken for dead",
        "a judge's second look compares beats",
        (
            (f"{SQL}/postgres/expire_producers.sql", "and producer.beat = given.beat", ""),
            (f"{SQL}/sqlite/expire_producers.sql", "and staffa_producers.beat = given.beat", ""),
        ),
        "whatever_happens",
    ),
    Mutant(
        "Whatever happens in whatever order: an outcome that was recorded is not called late",
        "outcomes handed in again are compared with what the job is",
        ((f"{SQL}/settling.py", "elif not (same_take and state == ack.after.state):", "else:"),),
        "whatever_happens",
    ),
    Mutant(
        "Whatever happens in whatever order: one job lives for each key",
        "a new job claims its key",
        (
            (
                f"{SQL}/keys.py",
                "    await claim(db, _claims((answer.given, answer.stored) for answer in new))\n",
                "",
            ),
        ),
        "whatever_happens",
    ),
    Mutant(
        "Many new unique jobs: each is stored once, by whoever is first",
        "who was not first takes back what it inserted",
        ((f"{SQL}/keys.py", "claimed == len(holders)", "claimed >= 0"),),
        "large_batches_in_any_order",
    ),
    Mutant(
        "Whatever happens in whatever order: a retry by hand stays out of a taken key",
        "a retry asks who holds the key",
        (
            (
                f"{SQL}/keys.py",
                "        if holder is None or holder.id == job.id:\n",
                "        if holder is None or holder.id != job.id:\n",
            ),
        ),
        "whatever_happens",
    ),
    Mutant(
        "Two exchanges under way: no job runs twice for them",
        "the database is asked what is ours when none is under way",
        (
            (
                "src/staffa/_producer.py",
                "            await self._landed()\n            self._unsure = False",
                "            self._unsure = False",
            ),
        ),
        "not_handed_back_meanwhile",
    ),
    Mutant(
        "Two exchanges under way: the acks of one that fails are kept",
        "outcomes that could not be written are handed in again",
        (
            (
                "src/staffa/_producer.py",
                "            self._finished = finished + self._finished\n            self._unsure",
                "            self._unsure",
            ),
        ),
        "fails_beside_another",
    ),
    Mutant(
        "Two exchanges under way: what one that fails took is put back",
        "a lost answer lets the queue doubt what is its own",
        (
            (
                "src/staffa/_producer.py",
                "            self._finished = finished + self._finished\n            self._unsure = True\n",
                "            self._finished = finished + self._finished\n",
            ),
        ),
        "fails_beside_another",
    ),
    Mutant(
        "Two exchanges under way: the failure of one is told",
        "the result of each is looked at",
        (
            ("src/staffa/_producer.py", "            ended.result()\n", "            ended.cancelled()\n"),
            (
                "src/staffa/_producer.py",
                "            await self._underway.pop()",
                "            await asyncio.wait([self._underway.pop()])",
            ),
        ),
        "fails_beside_another",
    ),
    Mutant(
        "Two exchanges under way: no more than two",
        "no third begins",
        (("src/staffa/_producer.py", "len(self._underway) == UNDERWAY_AT_MOST or ", ""),),
        "two_exchanges_are_under_way",
    ),
    Mutant(
        "Two exchanges under way: no more jobs run than the limit",
        "what others ask for is left to them",
        (("src/staffa/_producer.py", "limit - len(self._slots) - self._asked", "limit - len(self._slots)"),),
        "no_more_jobs_run_than_the_limit",
    ),
    Mutant(
        "Two exchanges under way: shutdown puts back what they take",
        "what they bring is stopped too, when they have landed",
        (WHAT_LANDS_LATE_RUNS_ON,),
        "grace_period_ends_is_put_back",
    ),
    Mutant(
        "Two exchanges under way: what was taken by who is taken for dead runs only in its next life",
        "what they bring is stopped too, when they have landed",
        (WHAT_LANDS_LATE_RUNS_ON,),
        "next_life",
    ),
    Mutant(
        "Some jobs run while the database looks for others",
        "at most half of the places are asked for at once",
        (("src/staffa/_producer.py", "(limit + 1) // 2", "limit"),),
        "fills_all_its_places",
    ),
    Mutant(
        "An urgent job does not wait for the end of the backlog (PostgreSQL)",
        "under load a look for all jobs is due now and then",
        (
            (
                "src/staffa/_cursor.py",
                "whole = self._position is None or now >= self._whole_at",
                "whole = self._position is None",
            ),
        ),
        "look_for_all_comes or urgent_job_does_not_wait and postgres",
    ),
    Mutant(
        "An urgent job starts at once where there is room (PostgreSQL)",
        "who found too little behind a position owes a look for all",
        (("src/staffa/_cursor.py", "self._owes = self._ran_dry and not whole", "self._owes = False"),),
        "ran_dry_behind_a_position or urgent_job_starts_at_once and postgres",
    ),
    Mutant(
        "Looks at once leave no job behind",
        "a look that began before one for all does not move the position",
        (("src/staffa/_cursor.py", "(look.round == self._round and position", "(position"),),
        "began_before_one_for_all",
    ),
    Mutant(
        "Looks at once leave no dead entries ahead",
        "the position moves forward only",
        (("src/staffa/_cursor.py", " and position > (self._position or START))", ")"),),
        "farthest_counts",
    ),
]


class Stale(Exception):
    """A mutant's text is no longer where it says, so it would take nothing away."""


def mutated(mutant: Mutant) -> dict[str, str]:
    """Give the files that a mutant changes, by path, as it leaves them. Raises `Stale`."""
    texts: dict[str, str] = {}
    for name, old, new in mutant.changes:
        text = texts.get(name) or (ROOT / name).read_text()
        if text.count(old) != 1:
            raise Stale(f"{mutant.promise}: {name} holds {old!r} {text.count(old)} times, not once")
        texts[name] = text.replace(old, new)
    return texts


def survives(mutant: Mutant) -> bool:
    """Run a mutant's tests in a copy of the tree; tell whether any of them passed, or none failed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for name, text in mutated(mutant).items():
            (copy / name).write_text(text)
        last = _last_line(copy, mutant.tests)
        survived = " passed" in last or not (" failed" in last or last.startswith(NOT_ENDED))
        verdict = "SURVIVED" if survived else "killed  "
        print(f"{verdict} {mutant.promise} | without: {mutant.safeguard} | {last}", flush=True)
        return survived


def _last_line(copy: Path, tests: str) -> str:
    """Run tests in a copy of the tree; give pytest's last line, or say that they never ended."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no"]
    command += ["-o", f"timeout={LONGEST_TEST_SECONDS}"]
    try:
        run = subprocess.run(
            [*command, *TESTS, "-k", tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy / "src"), "STAFFA_HYPOTHESIS_PROFILE": "unshrunk"},
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"{NOT_ENDED} after {LONGEST_SECONDS} s"
    return run.stdout.strip().splitlines()[-1] if run.stdout.strip() else run.stderr[-300:]


def main() -> int:
    wanted = sys.argv[1].lower() if len(sys.argv) > 1 else ""
    survivors = [mutant for mutant in MUTANTS if wanted in mutant.promise.lower() and survives(mutant)]
    return int(bool(survivors))


if __name__ == "__main__":
    sys.exit(main())
