"""Builds and reads ONNX graphs, and rewrites them in another precision."""

WEIGHTS = "_data"  # suffix of the file of a graph's weights: vision.onnx_data
