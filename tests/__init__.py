"""Tests; importing the package first mends the stack."""

import hypergrid_mtf  # noqa: F401
