"""TPU programs: what t5 would run on a TPU, compiled by the TPU's compiler."""
