"""What makes class maps of an image and the names of classes."""
