"""BLIP's image-text-matching model."""
