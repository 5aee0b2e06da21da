"""The demo model: a small BLIP that is trained on sticker scenes, from image-level labels alone.

`train` fits it, `grid_search` chooses layers, heads and settings, `recipe` exports it, `samples`
makes the pictures that `pnp-ovss demo` shows; `python -m benchmarks.demo_model --help` lists the
commands.
"""
