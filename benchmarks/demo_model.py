"""Makes the demo model of the package: a small BLIP with random weights, exported.

It stands in until a trained one is shipped; the commands around it are the real ones, its masks
mean nothing. From the repository's root, with the `export` extra installed:

    python -m benchmarks.demo_model
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from pnp_ovss.export import export
from pnp_ovss.export.tokenizer import word_piece
from tokenizers import Tokenizer

from .random_models import random_blip, save_checkpoint

DATA = Path(__file__).resolve().parent.parent / "engine" / "data"
MORE_NAMES = ("sky", "cloud", "grass", "flower", "window", "fire engine", "hot dog")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PROMPT = ("a", "picture", "of")
PIECES = {"sailing": ("sail", "##ing"), "lighthouse": ("light", "##house")}
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}


def names() -> list[str]:
    """The classes the model knows: those of the sample pictures, and a few more."""
    samples = json.loads((DATA / "samples" / "samples.json").read_text())
    return sorted({name for sample in samples for name in sample["classes"]} | set(MORE_NAMES))


def tokenizer() -> Tokenizer:
    """An uncased WordPiece tokenizer over the words of `names`, some of them in pieces."""
    words = sorted({word for name in names() for word in name.split()})
    pieces = [piece for word in words for piece in PIECES.get(word, (word,))]
    return word_piece("\n".join(dict.fromkeys((*SPECIAL, *PROMPT, *pieces, "[DEC]", "[ENC]"))))


def main() -> None:
    """Write `engine/data/demo`."""
    words = tokenizer()
    size = words.get_vocab_size()
    text = {**SHAPE, "vocab_size": size, "bos_token_id": size - 2, "max_position_embeddings": 64}
    model = random_blip({**SHAPE, "image_size": 224}, text)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "random-demo"
        save_checkpoint(model, words, checkpoint)
        export(
            str(checkpoint),
            DATA / "demo",
            image_size=224,
            layer=(0, 1),
            head="all",
            classes=tuple(names()),
            trained=False,
            overwrite=True,
            say=print,
        )


if __name__ == "__main__":
    main()
