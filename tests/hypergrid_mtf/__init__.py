"""Tests of hypergrid_mtf."""
