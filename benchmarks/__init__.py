"""Measures the speed and exactness of the engine and of the alternatives in PyTorch."""
