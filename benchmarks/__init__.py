"""Measures the speed and exactness of the engine and of what users would otherwise run."""
