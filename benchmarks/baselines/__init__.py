"""Baselines: what users would otherwise run."""
