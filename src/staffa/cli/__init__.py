"""The command line."""

from staffa.cli.app import main

__all__ = ["main"]
