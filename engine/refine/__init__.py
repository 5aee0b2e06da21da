"""Class maps to labels: one pure function, that needs no model."""
