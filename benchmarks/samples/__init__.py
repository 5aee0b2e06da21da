"""The sample pictures of the `demo` command, painted from seeded noise and geometry alone.

So they carry nobody else's rights. From the repository's root, repeat it with

    python -m benchmarks.samples
"""
