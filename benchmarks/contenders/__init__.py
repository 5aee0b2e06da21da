"""Contenders: the engine on its backends, and PyTorch, each behind the same protocol."""
