"""Tests; importing the package first patches the stack."""

import hypergrid_mtf  # noqa: F401
