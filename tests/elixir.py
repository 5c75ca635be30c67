"""An Elixir node's part, played with the statements that Oban 2.23 was seen to send."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
from psycopg.types.json import Jsonb

OBAN_COLUMNS = (
    "id, state::text, queue, worker, args, meta, tags, errors, attempt, attempted_by, max_attempts, priority,"
    " attempted_at, cancelled_at, completed_at, discarded_at, inserted_at, scheduled_at"
)


class Elixir:
    """One node; each method is one statement, or one transaction where Oban opens one."""

    def __init__(self, url, prefix="public", name="Oban", node="elixir@host"):
        self.connection = psycopg.connect(url, autocommit=True)
        self.prefix, self.name, self.node, self.uuid = prefix, name, node, str(uuid4())

    def close(self):
        self.connection.close()

    def run(self, statement, *values):
        statement = statement.replace("JOBS", f'"{self.prefix}"."oban_jobs"')
        cursor = self.connection.execute(
            statement.replace("PEERS", f'"{self.prefix}"."oban_peers"').encode(), values
        )
        return cursor.fetchall() if cursor.description else cursor.rowcount

    @staticmethod
    def now(**later):
        """The node's own clock, as UTC without a zone."""
        return datetime.now(UTC).replace(tzinfo=None) + timedelta(**later)

    # Inserting

    def insert(self, worker, queue, args=None, **columns):
        given = {
            "args": Jsonb(args or {}), "attempt": 0, "errors": [], "max_attempts": 20, "meta": Jsonb({}),
            "queue": queue, "state": "available", "tags": [], "worker": worker, **columns,
        }  # fmt: skip
        names, marks = ", ".join(f'"{name}"' for name in given), ", ".join(["%s"] * len(given))
        with self.connection.transaction():
            [(stored,)] = self.run(
                f'insert into JOBS ({names}) values ({marks}) on conflict do nothing returning "id"',
                *given.values(),
            )
        if given["state"] == "available":
            self.notify("insert", {"queue": queue})
        return stored

    def insert_all(self, worker, queue, count):
        row = "(%s, 0, '{}', 20, %s, %s, 'available', '{}', %s)"
        values = [value for _ in range(count) for value in (Jsonb({}), Jsonb({}), queue, worker)]
        rows = self.run(
            "insert into JOBS (args, attempt, errors, max_attempts, meta, queue, state, tags, worker)"
            f" values {', '.join([row] * count)} on conflict do nothing returning {OBAN_COLUMNS}",
            *values,
        )
        self.notify("insert", {"queue": queue})
        return [row[0] for row in rows]

    def insert_unique(self, worker, queue, args):
        with self.connection.transaction():
            [(locked,)] = self.run("select pg_try_advisory_xact_lock(%s)", 4_711)
            assert locked
            found = self.run(
                f"select {OBAN_COLUMNS} from JOBS where state = any('{{suspended,available,scheduled,executing,"
                "retryable,completed}'::\"PREFIX\".oban_job_state[]) and inserted_at >= %s and (worker = %s and"
                " (queue = %s and ((args @> %s and args <@ %s) and true))) limit 1".replace(
                    "PREFIX", self.prefix
                ),
                self.now(seconds=-60), worker, queue, Jsonb(args), Jsonb(args),
            )  # fmt: skip
            return found[0][0] if found else self.insert(worker, queue, args)

    # Working

    def fetch(self, queue, demand):
        with self.connection.transaction():
            rows = self.run(
                """
                with "subset" as (
                  select so0."id" as "id" from JOBS as so0 where (so0."state" = 'available') and (so0."queue" = %s)
                  order by so0."priority", so0."scheduled_at", so0."id" limit %s for update skip locked)
                update JOBS as o0 set "state" = 'executing', "attempted_at" = %s, "attempted_by" = %s,
                  "attempt" = o0."attempt" + 1
                from "subset" as f1 where (o0."id" = f1."id") and (o0."attempt" < o0."max_attempts")
                returning o0."id", o0."attempt"
                """,
                queue, demand, self.now(), [self.node, self.uuid],
            )  # fmt: skip
        return [row[0] for row in rows]

    def complete(self, id):
        return self.run(
            "update JOBS set state = 'completed', completed_at = %s where id = %s", self.now(), id
        )

    def fail(self, id, text="** (RuntimeError) kaboom", **later):
        return self.run(
            "update JOBS set state = 'retryable', errors = errors || %s, scheduled_at = %s where id = %s",
            [self._error(text)], self.now(**later), id,
        )  # fmt: skip

    def discard(self, id):
        return self.run(
            "update JOBS set state = 'discarded', errors = errors || %s, discarded_at = %s where id = %s",
            [self._error("** (RuntimeError) last straw")], self.now(), id,
        )  # fmt: skip

    def cancel_by_answer(self, id):
        return self.run(
            "update JOBS set state = 'cancelled', errors = errors || %s, cancelled_at = %s where id = %s",
            [self._error("** (Oban.PerformError) W failed with {:cancel, :no}")], self.now(), id,
        )  # fmt: skip

    def snooze(self, id, **later):
        return self.run(
            "update JOBS set state = 'scheduled', scheduled_at = %s, max_attempts = max_attempts + 1 where id = %s",
            self.now(**later), id,
        )  # fmt: skip

    def snooze_as_next_version(self, id, **later):
        return self.run(
            "update JOBS set state = 'scheduled', scheduled_at = %s, meta = %s, attempt = attempt + -1 where id = %s",
            self.now(**later), Jsonb({"snoozed": 1}), id,
        )  # fmt: skip

    @staticmethod
    def _error(text):
        return Jsonb(
            {"at": datetime.now(UTC).isoformat().replace("+00:00", "Z"), "attempt": 1, "error": text}
        )

    # Duties

    def stage(self):
        with self.connection.transaction():
            self.run(
                """
                update JOBS o0 set state = 'available' from (
                  select id, state from JOBS where state in ('scheduled', 'retryable') and scheduled_at <= %s
                  order by scheduled_at desc, id desc limit 5000) s1
                where o0.id = s1.id returning o0.id, o0.queue, s1.state
                """,
                self.now(),
            )
            queues = self.run(
                "select distinct queue from JOBS where state = 'available' and not (queue is null)"
            )
            self.notify("insert", *({"queue": queue} for (queue,) in queues))

    def lead(self, **lease):
        with self.connection.transaction():
            self.run("delete from PEERS where name = %s and expires_at < %s", self.name, self.now())
            return self.run(
                "insert into PEERS as o0 (expires_at, name, node, started_at) values (%s, %s, %s, %s)"
                " on conflict (name) do update set expires_at = %s where o0.node = %s",
                self.now(**(lease or {"seconds": 30})), self.name, self.node, self.now(),
                self.now(**(lease or {"seconds": 30})), self.node,
            )  # fmt: skip

    def resign(self):
        with self.connection.transaction():
            self.run("delete from PEERS where name = %s and node = %s", self.name, self.node)
            self.notify("leader", {"down": self.name})

    def rescue(self, **age):
        limit = self.now() - timedelta(**age)
        return self.run(
            "update JOBS set state = 'available'"
            " where state = 'executing' and attempted_at < %s and attempt < max_attempts",
            limit,
        ) + self.run(
            "update JOBS set state = 'discarded', discarded_at = %s"
            " where state = 'executing' and attempted_at < %s and attempt >= max_attempts",
            self.now(),
            limit,
        )

    def prune(self, **age):
        limit = self.now() - timedelta(**age)
        return self.run(
            """
            delete from JOBS as o0 using (
              select id, queue, state from JOBS where (state = 'completed' and scheduled_at < %s)
                or (state = 'cancelled' and cancelled_at < %s) or (state = 'discarded' and discarded_at < %s)
              limit 10000) s1
            where o0.id = s1.id
            """,
            limit, limit, limit,
        )  # fmt: skip

    # What people do

    def retry(self, id):
        self.run(
            """
            update JOBS set state = 'available', max_attempts = greatest(max_attempts, attempt + 1),
              completed_at = null, cancelled_at = null, discarded_at = null, scheduled_at = %s
            where id = %s and not (state in ('available', 'executing'))
            """,
            self.now(), id,
        )  # fmt: skip
        self.notify(
            "insert", *({"queue": q} for (q,) in self.run("select queue from JOBS where id = %s", id))
        )

    def cancel(self, id, signal=True):
        [(was,)] = self.run("select state::text from JOBS where id = %s", id)
        self.run(
            "update JOBS set state = 'cancelled', cancelled_at = %s"
            " where id = %s and not (state in ('cancelled', 'completed', 'discarded'))",
            self.now(), id,
        )  # fmt: skip
        if signal and was == "executing":
            self.notify("signal", {"action": "pkill", "job_id": id})

    # Telling

    def notify(self, channel, *payloads):
        texts = [json.dumps(payload, separators=(",", ":")) for payload in payloads]
        self.tell(channel, *texts)

    def tell(self, channel, *texts):
        self.run(
            "select pg_notify(%s, payload) from json_array_elements_text(%s::json) as payload",
            f"{self.prefix}.oban_{channel}",
            json.dumps(texts),
        )

    def row(self, id):
        """The row as JSON, of Oban's own columns."""
        [(row,)] = self.run("select to_jsonb(job) - 'take' - 'unique_key' from JOBS as job where id = %s", id)
        return row
