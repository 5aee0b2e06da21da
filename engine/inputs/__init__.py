"""Read what goes into a model: images and class names."""
