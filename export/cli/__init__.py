"""The commands `pnp-ovss export` and `pnp-ovss build`."""
