"""The parts of results, tables and comparisons."""
