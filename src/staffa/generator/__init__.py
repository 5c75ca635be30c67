"""New files for a project: a worker with its test, a whole application, a guide for coding assistants."""

from staffa.generator.app import new_app
from staffa.generator.guide import new_guide
from staffa.generator.names import name_of
from staffa.generator.project import Project, find_project
from staffa.generator.verifying import verify
from staffa.generator.worker import NewWorker, new_worker, sentence
from staffa.generator.writing import Change, alone_in, write

__all__ = [
    "Change",
    "NewWorker",
    "Project",
    "alone_in",
    "find_project",
    "name_of",
    "new_app",
    "new_guide",
    "new_worker",
    "sentence",
    "verify",
    "write",
]
