"""What is measured against what: the engine on its backends, and PyTorch."""
