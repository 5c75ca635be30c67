"""Durable background jobs on SQLite or PostgreSQL."""

from staffa._cron import Cron, CronEntry
from staffa._filter import JobFilter
from staffa._finding import Finding
from staffa._job import Job, State, Unique, current_job
from staffa._job_functions import job
from staffa._result_calls import Result
from staffa.config import Config
from staffa.errors import StaffaError
from staffa.instance import Staffa
from staffa.plugins import Crontab, Lifeline, Pruner, Reindexer, Stager
from staffa.worker import Cancel, Error, Record, Snooze, Worker

__all__ = [
    "Cancel",
    "Config",
    "Cron",
    "CronEntry",
    "Crontab",
    "Error",
    "Finding",
    "Job",
    "JobFilter",
    "Lifeline",
    "Pruner",
    "Record",
    "Reindexer",
    "Result",
    "Snooze",
    "Staffa",
    "StaffaError",
    "Stager",
    "State",
    "Unique",
    "Worker",
    "current_job",
    "job",
]
