"""Duties that repeat."""

from staffa.plugins.cron import Crontab
from staffa.plugins.lifeline import Lifeline
from staffa.plugins.pruner import Pruner
from staffa.plugins.reindexer import Reindexer
from staffa.plugins.stager import Stager

__all__ = ["Crontab", "Lifeline", "Pruner", "Reindexer", "Stager"]
