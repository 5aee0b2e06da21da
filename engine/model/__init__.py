"""Find, read and check model folders, which `export/` writes and everything else reads."""
