"""The stages of a segmentation, and what runs them side by side."""
