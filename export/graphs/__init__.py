"""ONNX graphs: how they are built, read, and written in another precision."""
