"""Implements the commands `pnp-ovss export` and `pnp-ovss build`."""
