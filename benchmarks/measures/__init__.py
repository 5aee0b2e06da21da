"""Measures, one a file: each yields rows, and makes a table and a plot of them."""
