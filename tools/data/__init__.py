"""Reads local benchmark files, and makes the mixture of those found."""
