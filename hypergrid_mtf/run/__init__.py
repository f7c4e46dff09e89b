"""What surrounds a run of t5: the request, checks, console, progress."""
