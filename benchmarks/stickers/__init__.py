"""Sticker scenes: pictures with exact masks, and a small BLIP that is trained on them.

`classes` names what is in the pictures, `atlas` holds the cut-out emoji, `textures` paints
backgrounds, `scenes` composes pictures and masks. `train` fits the demo model from image-level
labels alone; `python -m benchmarks.stickers --help` lists the commands.
"""
