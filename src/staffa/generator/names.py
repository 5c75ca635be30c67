"""Names in any spelling, as Python spells modules and classes."""

from __future__ import annotations

import builtins
import keyword
import re
import sys
from dataclasses import dataclass

from staffa.errors import GeneratorError

SPELLED = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[ _-]+[A-Za-z0-9]+)*")
WORDS = re.compile(r"[A-Z]+(?![a-z])[0-9]*|[A-Z]?[a-z]+[0-9]*|[0-9]+")


@dataclass(frozen=True, slots=True)
class Name:
    """A name of one or more words, all in lower case."""

    words: tuple[str, ...]

    @property
    def snake(self) -> str:
        """As modules are spelled: `send_digest`."""
        return "_".join(self.words)

    @property
    def pascal(self) -> str:
        """As classes are spelled: `SendDigest`."""
        return "".join(word.capitalize() for word in self.words)


def name_of(text: str) -> Name:
    """Read `send-digest`, `SendDigest`, `send digest` or `HTTPPing`. Raises `GeneratorError` for no possible name."""
    spelled = text.strip()
    if not spelled:
        raise GeneratorError("a name is missing: give one, as in send-digest")
    if spelled[0].isdigit():
        raise GeneratorError(f"{text!r} begins with a digit, which no name in Python does")
    if not SPELLED.fullmatch(spelled):
        raise GeneratorError(
            f"{text!r} is no name: write letters a to z and digits, as in send-digest, SendDigest or send_digest"
        )
    name = Name(tuple(word.lower() for word in WORDS.findall(spelled)))
    for each in (name.snake, name.pascal):
        if keyword.iskeyword(each):
            raise GeneratorError(f"{text!r} is a word of Python itself: choose another name")
    if name.snake in sys.stdlib_module_names:
        raise GeneratorError(
            f"{text!r} would hide {name.snake}, a module of Python's own library: choose another name"
        )
    if hasattr(builtins, name.pascal):
        raise GeneratorError(f"{text!r} would hide Python's own {name.pascal}: choose another name")
    return name
