"""Files are written atomically."""

import csv
import os

import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from hypergrid_mtf.run import files


def test_text_and_bytes_in_a_new_folder(tmp_path):
  for content in ("é\n", b"\x00\xff"):
    path = tmp_path / type(content).__name__ / "deep" / "file"
    files.write(str(path), content)
    mode = "r" if isinstance(content, str) else "rb"
    with open(path, mode) as f:
      assert f.read() == content
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("folder", ["", "ram://"])
def test_a_failed_write_keeps_what_was_there(folder, tmp_path, monkeypatch):
  folder = f"{folder}{tmp_path}"
  path = os.path.join(folder, "file")
  files.write(path, "before")

  def fail(source, *args, **kwargs):
    raise tf.errors.ResourceExhaustedError(None, None, f"{source}; no space")

  with monkeypatch.context() as patch:
    patch.setattr(tf.io.gfile, "rename", fail)
    with pytest.raises(errors.UserError) as e:
      files.write(path, "after")
  assert str(e.value) == (
    f"{path} cannot be written (no space): give another path."
  )
  with tf.io.gfile.GFile(path) as f:
    assert f.read() == "before"
  assert tf.io.gfile.listdir(folder) == ["file"]


def test_a_device_and_a_pipe_stay_what_they_are(tmp_path):
  """Otherwise a file would replace `--output_file=/dev/stdout`."""
  pipe = tmp_path / "pipe"
  os.mkfifo(pipe)
  reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
  files.write(str(pipe), "text")
  assert os.read(reader, 9) == b"text" and pipe.is_fifo()
  os.close(reader)
  for content in ("text", b"text"):
    with pytest.raises(errors.UserError, match="full cannot be written .No sp"):
      files.write("/dev/full", content)
  assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize(
  ("error", "says"),
  [
    (
      tf.errors.ResourceExhaustedError(
        None, None, "Graph execution error:\n\n a/b; No space left on device"
      ),
      "No space left on device",
    ),
    (RuntimeError("I/O error: No space left on device (os error 28)"), "No sp"),
    (
      tf.errors.PermissionDeniedError(None, None, "a/b; no rights"),
      "no rights",
    ),
    (OSError(13, "Permission denied"), "Permission denied"),
    (RuntimeError("a fault of ours"), None),
  ],
)
def test_a_folder_that_fails_to_be_made(tmp_path, error, says):
  """By whatever library writes to it; nothing is left."""
  kind = errors.UserError if says else RuntimeError
  with (
    pytest.raises(kind, match=says or "ours") as e,
    files.new_folder(str(tmp_path / "a")) as part,
  ):
    files.write(f"{part}/b", "c")
    raise error
  assert not says or f"--output_dir={tmp_path}/a cannot be wr" in str(e.value)
  assert not os.listdir(tmp_path)


def test_two_that_write_one_file_do_not_meet(tmp_path, monkeypatch):
  """The second begins and ends while the first is about to rename."""
  path = str(tmp_path / "file")
  rename = tf.io.gfile.rename

  def second_comes(*args, **kwargs):
    monkeypatch.setattr(tf.io.gfile, "rename", rename)
    files.write(path, "second")
    rename(*args, **kwargs)

  monkeypatch.setattr(tf.io.gfile, "rename", second_comes)
  files.write(path, "first")
  assert (tmp_path / "file").read_text() == "first"
  assert os.listdir(tmp_path) == ["file"]


def test_an_output_that_cannot_be_is_said_before_work(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "file").write_text("x")
  for check, value, says in (
    (files.check_output, "", "--output= is empty: name a file"),
    (files.check_output, str(tmp_path), "is a folder: name a file"),
    (files.check_output, "file/x", "--output=file/x cannot be written"),
    (files.check_output_dir, "", "--output_dir= is empty"),
    (files.check_output_dir, "file", "--output_dir=file cannot be written"),
  ):
    with pytest.raises(errors.UserError, match=says):
      check(value)
  files.check_output_dir("gs://bucket/submission")
  files.check_output("gs://bucket/x/file")
  assert os.listdir(tmp_path) == ["file"]  # no folder called gs:


def test_a_name_without_a_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  files.write("file", "x")
  assert (tmp_path / "file").read_text() == "x"


def test_a_table_grows_and_is_cut_where_a_training_resumes(tmp_path):
  path = str(tmp_path / "new" / "table.csv")
  files.cut_csv(path, 3)  # of a training that begins
  for step in range(1, 6):
    files.append_csv(path, {"step": step, "text": 'a, "b"'})
  with open(path, "a") as f:
    f.write("5")  # killed while it wrote 56
  files.cut_csv(path, 3)
  files.append_csv(path, {"step": 4, "text": "c"})
  with open(path, newline="") as f:
    rows = [(int(row["step"]), row["text"]) for row in csv.DictReader(f)]
  assert rows == [*((n, 'a, "b"') for n in (1, 2, 3)), (4, "c")]
  with open(path, "w") as f:
    f.write("ste")  # killed as it began
  files.cut_csv(path, 0)
  assert not os.path.exists(path)


def test_json_has_no_numbers_that_json_does_not_know(tmp_path):
  path = str(tmp_path / "file.json")
  files.write_json(path, {"a": [float("nan"), 1.5], "b": float("-inf")})
  assert files.read_json(path) == {"a": [None, 1.5], "b": None}
  for text in ("", "[1", "3"):
    (tmp_path / "file.json").write_text(text)
    assert files.read_json(path) == {}
  assert files.read_json(str(tmp_path / "none")) == {}
