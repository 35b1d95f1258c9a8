"""SentencePiece BPE over code, with pieces of our own that no text can spell.

Lossless: blanks, tabs and case stay, unknown characters fall back to bytes. Identifiers were split at case and
underscore and digits apart when the pieces were learned, so no piece crosses such a border.
Source of BPE with byte fallback: SentencePiece (Kudo and Richardson, 2018).
"""

import hashlib
import io
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Final

import sentencepiece

PAD: Final = 0
UNKNOWN: Final = 1
LANGUAGES: Final = ("python", "javascript", "typescript", "shell", "c", "cpp", "other", "go", "java")
_NEEDED: Final = ("<own>", "<before>", "<after>", "<add>", "<ctx>", "<test>", "<other>")
SPECIALS: Final = (*_NEEDED[:-1], *(f"<{name}>" for name in LANGUAGES))
FIRST_PIECE: Final = UNKNOWN + 1 + len(SPECIALS)  # the least id that stands for text

_DELIMITER: Final = "\u241f"  # marks borders while pieces are learned; never part of one
_BORDER = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=_)(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=_)")
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_SECRET = re.compile(
    r"\b(?:AKIA[0-9A-Z]{12,}|gh[pousr]_\w{20,}|xox[bap]-[\w-]{10,}|eyJ[\w-]{20,}|[A-Za-z0-9+/=_-]{32,})"
)


class TokenizerError(ValueError):
    """The file is no tokenizer of ours; the message says what was expected and found."""


class Tokenizer:
    """Text to ids. Safe to share between threads."""

    def __init__(self, model: bytes) -> None:
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as exc:
            raise TokenizerError(f"{len(model)} bytes that SentencePiece cannot read; train or install again") from exc
        self.model = model
        ids = ((name, int(self._pieces.piece_to_id(name))) for name in SPECIALS)
        self._ids = {name: number for name, number in ids if number != self._pieces.unk_id()}
        if missing := [name for name in _NEEDED if name not in self._ids]:
            raise TokenizerError(f"the tokenizer lacks the pieces {' '.join(missing)}; it was made for another version")

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        return cls(path.read_bytes())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the file, as the manifest names it."""
        return hashlib.sha256(self.model).hexdigest()

    def __len__(self) -> int:
        return int(self._pieces.vocab_size())

    def special(self, name: str) -> int:
        """The id of one of SPECIALS."""
        return self._ids[name]

    def language(self, name: str) -> int:
        """The id that opens a row of this language; one not taught is `other`."""
        return self._ids.get(f"<{name}>", self._ids["<other>"])

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._pieces.encode(text)
        return ids

    def decode(self, ids: list[int]) -> str:
        text: str = self._pieces.decode(ids)
        return text

    def pieces(self) -> list[str]:
        return [str(self._pieces.id_to_piece(index)) for index in range(len(self))]


def cleaned(line: str) -> str | None:
    """The line as the tokenizer may learn from it; None where it holds an address or what looks like a secret."""
    if len(line) > 400 or is_private(line):
        return None
    return _BORDER.sub(_DELIMITER, line)


def is_private(text: str) -> bool:
    """Whether an e-mail address or a string that looks like a secret stands in it."""
    return _EMAIL.search(text) is not None or _SECRET.search(text) is not None


def train_tokenizer(lines: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns the pieces. Raises TokenizerError where one of them is private (is_private)."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(text for line in lines if (text := cleaned(line))),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=0.9995,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        pretokenization_delimiter=_DELIMITER,
        max_sentencepiece_length=16,
        control_symbols=list(SPECIALS),
        pad_id=PAD,
        unk_id=UNKNOWN,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    tokenizer = Tokenizer(model.getvalue())
    if private := [piece for piece in tokenizer.pieces() if is_private(piece)]:
        raise TokenizerError(f"pieces that look private: {private[:5]}; widen the patterns in {__name__}")
    return tokenizer
