"""Programs for this project's developers."""
