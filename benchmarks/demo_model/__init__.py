"""Makes the demo model: a small BLIP, trained on sticker scenes from image-level labels alone.

`train` fits the model, `grid_search` chooses layers, heads and settings, `recipe` exports it.
`samples` makes the images that `pnp-ovss demo` shows. `python -m benchmarks.demo_model --help`
lists the commands.
"""
