"""Run one page of documentation in the working directory, as a patient reader would: `run_page.py PAGE`."""

import ast
import asyncio
import contextlib
import inspect
import io
import linecache
import os
import re
import subprocess
import sys
import traceback
import types
from pathlib import Path

import psycopg
from pages import blocks

from staffa.config import load

POSTGRES = "postgresql://localhost/app"
PATIENCE_SECONDS = 60


class Reader:
    """Does what a page says, block by block, in one module and one folder."""

    def __init__(self, page, postgres_url):
        self.page, self.postgres_url = page, postgres_url
        self.module = types.ModuleType("page")
        self.printed = ""
        sys.modules["page"] = self.module
        sys.path.insert(0, str(Path.cwd()))

    def read(self):
        with asyncio.Runner() as loop:
            for block in blocks(self.page.read_text("utf-8").replace(POSTGRES, self.postgres_url)):
                if block.runs:
                    self.do(block, loop)

    def do(self, block, loop):
        what = getattr(self, f"do_{block.language}", None)
        if what is None:
            return
        try:
            what(block, loop)
        except BaseException as error:
            traceback.print_exc()
            raise SystemExit(f"{self.page.name}, line {block.line}: {error!r}\n{block.text}") from error

    def do_python(self, block, loop):
        """Write a file that the block shows, or run it; awaiting is allowed, as in the REPL of asyncio."""
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text, "utf-8")
            return
        name = f"{self.page.name}:{block.line}"
        linecache.cache[name] = (len(block.text), None, block.text.splitlines(keepends=True), name)
        code = compile(block.text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if code.co_flags & inspect.CO_COROUTINE:
                loop.run(types.FunctionType(code, self.module.__dict__)())
            else:
                exec(code, self.module.__dict__)
        self.printed = out.getvalue()

    def do_text(self, block, _):
        """What the last block of Python printed."""
        compare(block.text, self.printed)

    def do_toml(self, block, _):
        """Read it as the configuration it is."""
        file = Path(block.file or ("pyproject.toml" if "[tool.staffa]" in block.text else "shown.toml"))
        file.write_text(block.text, "utf-8")
        load(file, environment={})

    def do_sql(self, block, _):
        """Paste it into a shell of PostgreSQL, where the page uses that."""
        if self.postgres_url != POSTGRES:
            with psycopg.connect(self.postgres_url) as connection:
                connection.execute(block.text)

    def do_console(self, block, _):
        """Run its commands and compare what they say, where the page shows it."""
        for command, expected in commands(block.text):
            done = subprocess.run(
                ["bash", "-c", command],
                check=False,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=PATIENCE_SECONDS,
            )
            said = done.stdout + done.stderr
            if (done.returncode != 0) != (block.note == "fails"):
                raise AssertionError(f"{command!r} exited with {done.returncode}:\n{said}")
            if expected:
                compare(expected, said)


def commands(text):
    """Split a console into commands and what they are shown to say."""
    found = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append([line.removeprefix("$ ").strip(), ""])
        elif found[-1][0].endswith("\\"):
            found[-1][0] = found[-1][0].removesuffix("\\") + line.strip()
        else:
            found[-1][1] += line
    return found


def compare(expected, said):
    """Compare line by line without trailing blanks; `...` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in plain(expected).split("..."))
    if not re.fullmatch(pattern, plain(said), re.DOTALL):
        raise AssertionError(f"the page shows\n{expected}\nbut what was said is\n{said}")


def plain(text):
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


if __name__ == "__main__":
    Reader(Path(sys.argv[1]), os.environ.pop("PAGE_POSTGRES_URL", POSTGRES)).read()
