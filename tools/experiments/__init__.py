"""What results, tables and comparisons are made of."""
