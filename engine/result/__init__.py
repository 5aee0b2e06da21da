"""The result of a segmentation, and what becomes of it."""
