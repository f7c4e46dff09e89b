"""What the benchmark of a step is made of."""
