"""Provides what every measure needs: clocks, recorded rows, tables, models."""
