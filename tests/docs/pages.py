"""What a page of documentation holds: its fenced blocks, in order."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = "```"
NO_RUN = "no-run:"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what else its first line says, its text, and where it stands."""

    language: str
    note: str
    text: str
    line: int
    heading: str

    @property
    def runs(self):
        return not self.note.startswith(NO_RUN)

    @property
    def reason(self):
        """Why it is not run."""
        return self.note.removeprefix(NO_RUN).strip()

    @property
    def file(self):
        """The file it shows, if its first line is a comment that is nothing but a file name."""
        words = self.text.partition("\n")[0].split()
        return words[1] if len(words) == 2 and words[0] == "#" and Path(words[1]).suffix else None


def documents():
    """All pages that promise something to a reader."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text):
    """List the fenced blocks of a page."""
    found, heading, fence = [], "", None
    for number, line in enumerate(text.splitlines(), 1):
        if fence is None and line.startswith("#"):
            heading = line.lstrip("#").strip()
        elif fence is None and line.startswith(FENCE):
            language, _, note = line.removeprefix(FENCE).partition(" ")
            fence = (language, note.strip(), number, [])
        elif fence is not None and line.rstrip() == FENCE:
            language, note, start, lines = fence
            found.append(Block(language, note, "\n".join(lines) + "\n", start, heading))
            fence = None
        elif fence is not None:
            fence[3].append(line)
    if fence is not None:
        raise ValueError(f"the block of line {fence[2]} has no end")
    return found
