"""Files are written whole or not at all."""

import os

import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf.launch import files


def test_text_and_bytes_in_a_new_folder(tmp_path):
  for content in ("é\n", b"\x00\xff"):
    path = tmp_path / type(content).__name__ / "deep" / "file"
    files.write(str(path), content)
    mode = "r" if isinstance(content, str) else "rb"
    with open(path, mode) as f:
      assert f.read() == content
    assert os.listdir(path.parent) == ["file"]


def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
  path = tmp_path / "file"
  files.write(str(path), "before")

  def fail(*args, **kwargs):
    raise OSError("no space")

  monkeypatch.setattr(tf.io.gfile, "rename", fail)
  with pytest.raises(OSError, match="no space"):
    files.write(str(path), "after")
  assert path.read_text() == "before"


def test_a_name_without_a_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  files.write("file", "x")
  assert (tmp_path / "file").read_text() == "x"
