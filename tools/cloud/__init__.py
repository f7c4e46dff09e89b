"""What `tools.tpu` and `make install-tpu` are made of.

Nothing here imports more than Python's own library: it runs on a fresh TPU VM
and in Google's Cloud Shell, where nothing is installed yet.
"""
