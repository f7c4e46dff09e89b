"""Programs of a TPU: what t5 would run on one, by the compiler of the TPU."""
