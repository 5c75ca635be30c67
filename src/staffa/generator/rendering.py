"""Templates, a project's own before ours, and their text as the project's formatter wants it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import traceback
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined

from staffa.errors import GeneratorError


class Templates:
    """Renders templates by their path; those in `folder` stand in for ours of the same path."""

    def __init__(self, folder: Path | None = None) -> None:
        own = [] if folder is None else [FileSystemLoader(folder)]
        self._environment = Environment(  # noqa: S701 - what is rendered is code, not a page
            loader=ChoiceLoader([*own, PackageLoader("staffa.generator")]),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "literal": lambda text: json.dumps(text, ensure_ascii=False),
            "quoted": shlex.quote,
            "cell": lambda text: text.replace("|", "\\|"),
        }

    def render(self, template: str, **given: Any) -> str:
        """Fill in a template. Raises `GeneratorError` naming the one that is wrong."""
        try:
            text = self._environment.get_template(template).render(given)
            if ".py." in template:
                compile(text, template, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise GeneratorError(
                f"the template {template} gives no Python: {error.msg}, line {error.lineno}"
            ) from error
        except Exception as error:
            raise GeneratorError(
                f"the template {_place(template, error)}: {type(error).__name__}: {error}"
            ) from error
        return text


def _place(template: str, error: Exception) -> str:
    """Name a template and the line in it, which Jinja shows as if it were code."""
    line = getattr(error, "lineno", None)
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.endswith(template) or frame.filename == "<template>":
            line = frame.lineno
    return template if line is None else f"{template}, line {line}"


def formatted(text: str, path: Path, *, root: Path, package: str) -> str:
    """Sort imports and format code by the settings that hold for a path, where ruff is installed.

    It is told which package is the project's own: it would look for modules that are not written yet.
    """
    if find_spec("ruff") is None:
        return text
    ours = f'lint.isort.known-first-party=["{package.partition(".")[0]}"]'
    for command in (("check", "--select", "I", "--fix", "--config", ours), ("format",)):
        text = _through(text, root, *command, "--quiet", "--stdin-filename", str(path.absolute()), "-")
    return text


def _through(text: str, root: Path, *command: str) -> str:
    """Pass a text through ruff; what it cannot read stays as it is, and its user will see why."""
    done = subprocess.run(  # noqa: S603 - ruff, by the Python that runs
        [sys.executable, "-m", "ruff", *command],
        cwd=root,
        check=False,
        capture_output=True,
        input=text,
        encoding="utf-8",
    )
    return done.stdout or text
