"""Holds a package for each family of vision-language models, and the registry of families."""
