"""Measures speed and exactness, one figure a file: each yields rows, a table and a plot."""
