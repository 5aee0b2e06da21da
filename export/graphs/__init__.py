"""ONNX graphs: how they are built, read, and written in another precision."""

WEIGHTS = "_data"  # ends the name of the file of a graph's weights
