"""Hold the result of a segmentation; draw, convert and write it."""
