"""Texts in memory, and how a file's lines become examples."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, overload

UNITS = ("line", "paragraph", "sentence", "file")
# A paragraph's lines are wrapped if, but for its last one, half of them are nearly as long as the longest.
NEARLY = 0.8
# A sentence's end: its mark, what closes after it, and what may begin another one.
_END = re.compile(r"(?<=[.!?…])([\"'»”’)\]]*)\s+(?=[\"'«“‘(\[¡¿—–-]*\s*[A-ZÀ-ÖØ-ÞĀ-Ž0-9])")


@dataclass(frozen=True, repr=False)
class Texts(Sequence[str]):
    """Texts, an example each. unit, column: how they were found in their file, "" for texts in memory."""

    items: tuple[str, ...]
    unit: str = ""
    column: str = ""

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"Texts({len(self):,} of them)"

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Texts(self.items[index], self.unit, self.column)
        return self.items[index]


def paragraphs(lines: Sequence[str]) -> list[list[str]]:
    """The lines between two empty ones, stripped."""
    found: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            found[-1].append(line.strip())
        elif found[-1]:
            found.append([])
    return [p for p in found if p]


def unit_of(lines: Sequence[str]) -> str:
    """ "sentence" for prose whose paragraphs are wrapped into lines, else "line"."""
    blocks = paragraphs(lines)
    inner = [len(line) for block in blocks for line in block[:-1]]
    if len(blocks) < 2 or not inner or len(inner) < len(lines) / 3:
        return "line"
    longest = sorted(inner)[round(0.95 * (len(inner) - 1))]
    return "sentence" if median(inner) >= NEARLY * longest else "line"


def examples(lines: Sequence[str], unit: str) -> list[str]:
    """Lines as examples of this unit; empty ones are no example."""
    if unit == "file":
        text = "\n".join(lines).strip()
        return [text] if text else []
    if unit == "line":
        return [line.strip() for line in lines if line.strip()]
    joined = [" ".join(block) for block in paragraphs(lines)]
    return joined if unit == "paragraph" else [s for p in joined for s in sentences(p)]


def sentences(paragraph: str) -> list[str]:
    """A paragraph's sentences: one ends at its mark, before a capital, a digit or what may begin another."""
    pieces = _END.split(paragraph)
    return [s.strip() for a, b in zip(pieces[::2], [*pieces[1::2], ""], strict=True) if (s := a + b).strip()]
