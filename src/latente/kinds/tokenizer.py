"""Texts ⇄ tokens: characters, or pieces of words that were learned from the texts."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import ConfigError, ModelFileError
from ..model.dists.tokens import END, OWN, UNSEEN

# What stands for a space in a piece of a word.
SPACE = "▁"
# What stands for what is not known: no text has one.
NONE = "\0"
# Characters that a vocabulary holds at the most; rarer ones are not known.
ALPHABET = 1000
# Texts of fewer characters are learned letter by letter: pieces of words would be too rare to learn from.
FEW = 200_000
# Pieces of a vocabulary, by the number of characters of the texts.
SIZES = ((5_000_000, 2_000), (50_000_000, 4_000), (float("inf"), 8_000))
HINT = "pip install 'latente[text]', or --set kind.tokens=characters"


@dataclass(frozen=True)
class Vocabulary:
    """What is learned: the pieces, in the order of their tokens, and, of pieces longer than a character, which two are
    joined first ("a b"), as byte-pair encoding does (Sennrich et al. 2016, arXiv:1508.07909), here of characters.
    """

    pieces: tuple[str, ...]
    merges: tuple[str, ...] = ()

    @classmethod
    def characters(cls, texts: Sequence[str]) -> "Vocabulary":
        """The characters of texts, the most common first."""
        often = Counter(c for text in texts for c in normal(text))
        return cls(tuple(c for c, _ in sorted(often.items(), key=lambda f: (-f[1], f[0]))[:ALPHABET]))

    @classmethod
    def subwords(cls, texts: Sequence[str], size: int) -> "Vocabulary":
        """`size` pieces, at the most, of the words of texts."""
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        learner: Any = Tokenizer(models.BPE())
        learner.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never")
        trainer = trainers.BpeTrainer(vocab_size=size - OWN, show_progress=False, limit_alphabet=ALPHABET)
        learner.train_from_iterator((_plain(normal(text), "") for text in texts), trainer)
        import json

        document = json.loads(learner.to_str())["model"]
        pieces = sorted(document["vocab"], key=document["vocab"].__getitem__)
        merges = (m if isinstance(m, str) else " ".join(m) for m in document["merges"])
        return cls(tuple(pieces), tuple(merges))

    def __len__(self) -> int:
        """Tokens, those that every vocabulary begins with among them."""
        return len(self.pieces) + OWN

    @cached_property
    def _index(self) -> dict[str, int]:
        return {piece: i + OWN for i, piece in enumerate(self.pieces)}

    @cached_property
    def _encoder(self) -> Any:
        try:
            from tokenizers import Tokenizer, models, pre_tokenizers
        except ImportError:
            raise ConfigError("this model reads pieces of words, for which a library is missing", hint=HINT) from None
        vocabulary = {NONE: UNSEEN} | self._index
        try:
            encoder: Any = Tokenizer(
                models.BPE(vocabulary, [(a, b) for a, _, b in (m.partition(" ") for m in self.merges)], unk_token=NONE)
            )
        except Exception as error:  # the library has no type of its own for what it refuses
            raise ModelFileError(f"its vocabulary cannot be used: {error}", hint="fetch the file again") from None
        encoder.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never")
        return encoder

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, without an end; one that is not known is `UNSEEN`."""
        texts = [normal(text) for text in texts]
        if not self.merges:
            return [[self._index.get(c, UNSEEN) for c in text] for text in texts]
        return [found.ids for found in self._encoder.encode_batch([_plain(text, NONE) for text in texts])]

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens up to the end as text; one that is not known is U+FFFD."""
        pieces = []
        for token in tokens:
            if token in (0, END):
                break
            pieces.append(self.pieces[token - OWN] if token >= OWN else "\ufffd")
        text = "".join(pieces)
        return text.replace(SPACE, " ") if self.merges else text


def normal(text: str) -> str:
    """Text as tokens are made of it: composed characters (NFC), and U+FFFD for half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return unicodedata.normalize("NFC", text)


def learned(texts: Sequence[str], tokens: str, size: int) -> Vocabulary:
    """The vocabulary of texts. tokens: "characters", "subwords", or "auto", by the number of characters."""
    characters = sum(map(len, texts))
    if tokens == "characters" or (tokens == "auto" and characters < FEW):
        return Vocabulary.characters(texts)
    try:
        import tokenizers  # noqa: F401 - whether it is there
    except ImportError:
        if tokens == "subwords":
            raise ConfigError("subwords are learned by a library that is missing", hint=HINT) from None
        return Vocabulary.characters(texts)
    words = Vocabulary.subwords(texts, size or next(s for most, s in SIZES if characters < most))
    if not words.merges:
        return Vocabulary.characters(
            texts
        )  # nothing comes twice, or fewer pieces were asked for than there are letters
    # The most common first, as the likelihood takes it.
    often = Counter(token for row in words.encode(texts) for token in row)
    order = sorted(range(OWN, len(words)), key=lambda token: (-often[token], token))
    return Vocabulary(tuple(words.pieces[token - OWN] for token in order), words.merges)


def _plain(text: str, instead: str) -> str:
    """Text without what pieces of words are written with."""
    return text.replace(NONE, instead).replace(SPACE, instead)
