"""Implements the method in PyTorch: what users would otherwise run."""
