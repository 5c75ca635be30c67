"""A guide that tells a coding assistant how to make a worker in this project."""

from __future__ import annotations

from pathlib import Path

from staffa.generator.project import Project
from staffa.generator.writing import Change

GUIDE = Path("docs") / "commands" / "new-worker.md"


def new_guide(project: Project, path: Path | None = None) -> Change:
    """Plan the guide, true to the project's queues and folders; nothing is written yet."""
    text = project.templates.render(
        "assistant_guide.md.jinja",
        config=project.config.name,
        queues=project.queues,
        package=project.package,
        workers=project.shown(project.workers),
        tests=project.shown(project.tests),
    )
    return Change(project.root / (path or GUIDE), text)
