"""What every measure uses: clocks, records, tables, models."""
