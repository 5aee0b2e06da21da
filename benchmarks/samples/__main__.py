"""Paint the sample pictures, and `samples.json`, which names what to look for in each."""

from __future__ import annotations

import json
from pathlib import Path

from . import breakfast, harbour, meadow

OUTPUT = Path(__file__).resolve().parents[2] / "engine" / "data" / "samples"
QUALITY = 88

SCENES = (
    (
        harbour.draw,
        "harbour.jpg",
        ["sailing boat", "lighthouse", "water"],
        "A sailing boat passes a lighthouse in late sunlight.",
    ),
    (
        meadow.draw,
        "meadow.jpg",
        ["hot air balloon", "tree", "house"],
        "A hot air balloon drifts over a cottage and an oak.",
    ),
    (
        breakfast.draw,
        "breakfast.jpg",
        ["coffee cup", "orange", "table"],
        "A cup of coffee and oranges stand on a wooden table by the window.",
    ),
)


def main() -> None:
    """Draw every scene and write the list that describes them."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    listing = []
    for draw, file, classes, description in SCENES:
        draw().save(OUTPUT / file, quality=QUALITY, optimize=True)
        listing.append({"file": file, "classes": classes, "description": description})
    (OUTPUT / "samples.json").write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
