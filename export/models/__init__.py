"""One module a family of vision-language models."""
