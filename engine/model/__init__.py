"""The model folder: what `export/` writes and everything else reads."""
