"""Readers of local benchmark files, and the mixture of what is there."""
