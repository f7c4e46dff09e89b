"""What a run would cost on a TPU, before one is rented."""
