"""Asking a person before something is lost."""

from __future__ import annotations

import sys

import typer

from staffa.errors import ConfigError


def ask(question: str, otherwise: str) -> None:
    """Go on only if a person agrees. Raises `ConfigError` where nobody does, or nobody can be asked."""
    if not can_be_asked():
        raise ConfigError(f"{question}; {otherwise}")
    if not typer.confirm(f"{question}. Go on?"):
        raise ConfigError("nothing was changed")


def can_be_asked() -> bool:
    return sys.stdin.isatty()
