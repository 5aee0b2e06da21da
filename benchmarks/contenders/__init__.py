"""Runs contenders behind one protocol: the engine on its backends, and PyTorch."""
