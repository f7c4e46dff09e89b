"""Tests; importing the package first patches the libraries."""

import hypergrid_mtf  # noqa: F401
