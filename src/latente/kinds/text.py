"""Text: sentences, lines or paragraphs of any language."""

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from ..errors import DataError
from ..model.batch import Batch
from ..model.dists.tokens import END, UNSEEN
from ..parts import part, require
from .base import DataWarning
from .reading_text import texts_of
from .sequences import Sequences, batch_of
from .texts import Texts
from .tokenizer import Vocabulary, learned, normal

# Tokens of a text, at the most: pieces of words, characters. Pieces of a vocabulary.
LONGEST, LETTERS, LARGEST = 256, 512, 8000


@part("kind", "text")
@dataclass(frozen=True)
class Text(Sequences):
    """Texts as characters or pieces of words, each given those before it.

    tokens: "characters", "subwords", or "auto": pieces of words from 200,000 characters of text on. vocabulary: how
    many pieces, at most 8,000; 0: by the size of the data, 2,000 or more.
    Learned: `pieces` and `merges`, the vocabulary; `pairs`, which follow which; `steps`, tokens of the longest text, at
    most 256 (512 characters) unless given; `unit` and `column`, how the texts were found in their file.
    """

    tokens: Literal["auto", "characters", "subwords"] = "auto"
    vocabulary: int = 0
    unit: str = ""
    column: str = ""
    pieces: tuple[str, ...] = ()
    merges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fine = self.vocabulary == 0 or 10 <= self.vocabulary <= LARGEST
        require(fine, self, "vocabulary", f"10 to {LARGEST:,}, or 0")
        require(0 <= self.steps <= 1 << 16, self, "steps", "0 to 65,536")
        require(not self.pairs or self.steps >= 1, self, "steps", "1 or more of a fitted kind")
        require(len(self.pieces) < 1 << 15, self, "pieces", f"at most {LARGEST:,}")

    @classmethod
    def accepts(cls, raw: Any) -> bool:
        return texts_of(raw) is not None

    @cached_property
    def words(self) -> Vocabulary:
        """The learned vocabulary."""
        return Vocabulary(self.pieces, self.merges)

    @property
    def size(self) -> int:
        return len(self.words)

    def learn_blocks(self, blocks: Iterable[Any]) -> "Text":
        parts = list(blocks)
        if len(parts) != 1:
            raise DataError("texts are learned in memory", hint="--stream no")
        texts = self._texts(parts[0])
        if len(texts) < 2 or len(set(texts)) < 2:
            raise DataError(
                f"found {len(texts)} text(s) (n_samples={len(texts)}), {len(set(texts))} of them different: there is "
                "nothing to learn",
                hint="give more lines, or --unit sentence",
            )
        words = learned(texts, self.tokens, self.vocabulary)
        kind = replace(self, pieces=words.pieces, merges=words.merges, unit=texts.unit, column=texts.column)
        rows = [[*row, END] for row in words.encode(texts)]
        if not self.steps:
            kind = replace(kind, steps=min(LONGEST if words.merges else LETTERS, max(map(len, rows))))
        return kind.seen(batch_of(rows, kind.steps))

    def to_batch(self, raw: Any) -> Batch:
        texts = self._texts(raw)
        rows = self.words.encode(texts)
        self._tell(texts, rows)
        return batch_of([[*row, END] for row in rows], self.steps)

    def restore(self, x: Tensor) -> list[str]:
        return [self.words.decode(row) for row in x.long().tolist()]

    def _texts(self, raw: Any) -> Texts:
        if hasattr(raw, "columns"):
            from .reading_text import of_table

            return of_table(raw, self.column, "the table", lambda text: warnings.warn(text, DataWarning, stacklevel=5))
        texts = texts_of([raw] if isinstance(raw, str) else raw)
        if texts is None:
            items = list(raw) if isinstance(raw, (list, tuple)) else []
            odd = next((i for i, item in enumerate(items) if not isinstance(item, str)), None)
            what = f"item {odd} is {items[odd]!r:.60}" if odd is not None else f"a {type(raw).__name__} is none"
            raise DataError(f"texts are a list of strings: {what if items else 'this one is empty'}", hint="['a text']")
        return texts

    def _tell(self, texts: Texts, rows: list[list[int]]) -> None:
        """Say what of texts is not known, and which are cut."""
        if any(UNSEEN in row for row in rows):
            known = {c for piece in self.pieces for c in piece} | ({" "} if self.merges else set())
            new = Counter(c for text in texts for c in normal(text) if c not in known)
            shown = ", ".join(f"{c!r} ({n:,})" for c, n in new.most_common(5))
            note = f"{len(new)} character(s) that the model has not seen count as unknown: {shown}"
            warnings.warn(note, DataWarning, stacklevel=5)
        cut = sum(len(row) > self.steps for row in rows)
        if cut:
            note = f"{cut:,} of {len(rows):,} texts are longer than {self.steps} tokens, and were cut there"
            more = f"--set kind.steps={2 * self.steps} reads more, --unit sentence makes them shorter"
            warnings.warn(f"{note}: {more}", DataWarning, stacklevel=5)

    @property
    def read_options(self) -> dict[str, Any]:
        return {"unit": self.unit or "auto", "text_col": self.column}

    @property
    def summary(self) -> list[str]:
        what = "pieces of words" if self.merges else "characters"
        shown = " ".join(self.pieces[:40])
        return [f"up to {self.steps} tokens of {len(self.pieces):,} {what}", f"such as {shown}"]

    def cell_name(self, index: int) -> str:
        return f"token {index}"
