"""Everything around a run of t5: the request, checks, console, progress."""
