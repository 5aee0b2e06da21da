"""Reads and checks WordPiece tokenizers: a checkpoint's, or BERT's."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from ...engine.errors import ModelError

FILES = ("tokenizer.json", "vocab.txt")
BERT_SIZES = (30522, 30524)  # of BERT's vocabulary, without and with BLIP's [DEC] and [ENC]


def read(source: Path) -> Tokenizer | None:
    """Read a tokenizer.

    Args:
        source: path of a `tokenizer.json` or `vocab.txt`, or of a folder with one of them.

    Returns:
        The tokenizer; None if no such file exists.

    Raises:
        ModelError: the file cannot be read.
    """
    for path in [source / name for name in FILES] if source.is_dir() else [source]:
        if not path.is_file():
            continue
        try:
            if path.suffix == ".json":
                return Tokenizer.from_file(str(path))
            return word_piece(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(
                f"'{path}' cannot be read as a tokenizer: {error}",
                "give a BERT WordPiece tokenizer: --tokenizer vocab.txt",
            ) from error
    return None


def bert() -> Tokenizer:
    """Return BERT's uncased tokenizer, which BLIP extends by two tokens."""
    vocabulary = resources.files("pnp_ovss.export") / "data" / "bert-base-uncased-vocab.txt"
    return word_piece(vocabulary.read_text(encoding="utf-8"))


def word_piece(vocabulary: str) -> Tokenizer:
    """Make an uncased WordPiece tokenizer from the text of a vocabulary, with a piece a line."""
    ids = {piece: index for index, piece in enumerate(vocabulary.rstrip("\n").split("\n"))}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def check(tokenizer: Tokenizer, vocabulary_size: int) -> None:
    """Check that a tokenizer fits a model.

    Args:
        tokenizer: tokenizer.
        vocabulary_size: number of the model's word embeddings.

    Raises:
        ModelError: the tokenizer lacks a special token, or has ids beyond the word embeddings.
    """
    for token in ("[UNK]", "[SEP]", "[PAD]"):
        special_id(tokenizer, token)
    largest = max(tokenizer.get_vocab(with_added_tokens=False).values())
    if largest >= vocabulary_size:
        raise ModelError(
            f"the tokenizer has ids up to {largest}, the model's vocabulary"
            f" {vocabulary_size} entries",
            "give the tokenizer of the model: --tokenizer vocab.txt",
        )


def special_id(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a special token.

    Raises:
        ModelError: the tokenizer has no such token.
    """
    token_id = tokenizer.token_to_id(token)
    if token_id is None:
        raise ModelError(
            f"the tokenizer has no {token}",
            "give a BERT WordPiece tokenizer: --tokenizer vocab.txt",
        )
    return token_id
