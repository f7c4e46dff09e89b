"""Lines read back as both of t5's writers wrote them."""

import pytest
from mesh_tensorflow.transformer import utils as mesh_utils
from t5.models import utils as t5_utils

from hypergrid_mtf import errors
from tools.experiments import decoded

# All that str.splitlines takes for the end of a line, but for "\n".
_ODD = [f"a{c}b" for c in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"]


def test_lines_come_back(tmp_path):
  path = str(tmp_path / "task_targets")
  for writer in (mesh_utils, t5_utils):
    for written in (_ODD, [*_ODD, "\r"], ["", "", "x"], ["\ufeffx", " y "]):
      writer.write_lines_to_file(written, path)
      assert decoded.read_lines(path) == written
      assert decoded.read_lines(path, len(written)) == written
    # t5's has no newline at the end: the count tells an empty last line.
    for written in (["a", ""], ["a", "", ""], [""]):
      writer.write_lines_to_file(written, path)
      assert decoded.read_lines(path, len(written)) == written
  mesh_utils.write_lines_to_file(["a", ""], path)
  assert decoded.read_lines(path) == ["a", ""]
  # A number that does not fit is seen by whoever counts.
  assert decoded.read_lines(path, 5) == ["a", ""]


def test_what_cannot_be_read_is_said(tmp_path):
  path = tmp_path / "task_targets"
  with pytest.raises(errors.UserError, match=r"targets cannot be read \(No"):
    decoded.read_lines(str(path))
  path.write_bytes(b"a\nb\xff\n")
  with pytest.raises(errors.UserError, match="line 2 is not UTF-8"):
    decoded.read_lines(str(path))
