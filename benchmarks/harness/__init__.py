"""Tools of every measure: clocks, records, tables, models."""
