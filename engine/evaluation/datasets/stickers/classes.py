"""Class names that sticker scenes are made of."""

from __future__ import annotations

STICKERS = {
    "alarm clock": "⏰",
    "avocado": "🥑",
    "banana": "🍌",
    "birthday cake": "🎂",
    "broccoli": "🥦",
    "butterfly": "🦋",
    "cat": "🐱",
    "crown": "👑",
    "doughnut": "🍩",
    "eggplant": "🍆",
    "elephant": "🐘",
    "fire engine": "🚒",
    "french fries": "🍟",
    "frog": "🐸",
    "grapes": "🍇",
    "hot dog": "🌭",
    "ladybug": "🐞",
    "mushroom": "🍄",
    "penguin": "🐧",
    "pig": "🐷",
    "pineapple": "🍍",
    "pizza": "🍕",
    "police car": "🚓",
    "sailing boat": "⛵",
    "soccer ball": "⚽",
    "strawberry": "🍓",
    "sunflower": "🌻",
    "teddy bear": "🧸",
    "tractor": "🚜",
    "turtle": "🐢",
    "umbrella": "☂",
    "watermelon": "🍉",
}
"""Emoji of each class name, in the order of the atlas."""

TEXTURES = (
    "brick wall",
    "grass",
    "night sky",
    "pebbles",
    "sand",
    "snow",
    "water",
    "wooden floor",
)
"""Names of the textures that cover a context scene."""

CLASSES = (*STICKERS, *TEXTURES)

PIECES = {
    "broccoli": ("broc", "##coli"),
    "butterfly": ("butter", "##fly"),
    "doughnut": ("dough", "##nut"),
    "eggplant": ("egg", "##plant"),
    "elephant": ("ele", "##phant"),
    "ladybug": ("lady", "##bug"),
    "mushroom": ("mush", "##room"),
    "penguin": ("pen", "##guin"),
    "pineapple": ("pine", "##apple"),
    "strawberry": ("straw", "##berry"),
    "sunflower": ("sun", "##flower"),
}
"""Words that the model's vocabulary holds only in pieces."""
