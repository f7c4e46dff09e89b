"""The parts of `tools.tpu` and `make install-tpu`.

Imports only Python's standard library: it runs on a fresh TPU VM and in
Google's Cloud Shell, where nothing is installed yet.
"""
