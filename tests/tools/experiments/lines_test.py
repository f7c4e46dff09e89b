"""Lines read back as both of t5's writers wrote them."""

import pytest
from mesh_tensorflow.transformer import utils as mesh_utils
from t5.models import utils as t5_utils

from hypergrid_mtf import errors
from tools.experiments import lines

# All that str.splitlines takes for the end of a line, but for "\n".
_ODD = [f"a{c}b" for c in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"]


@pytest.mark.parametrize("writer", [mesh_utils, t5_utils])
@pytest.mark.parametrize(
  "written",
  [_ODD, [*_ODD, "\r"], ["", "", "x"], ["\ufeffx", " y ", "\u2028"]],
)
def test_lines_come_back(tmp_path, writer, written):
  path = str(tmp_path / "task_targets")
  writer.write_lines_to_file(written, path)
  assert lines.read_lines(path) == written
  assert lines.read_lines(path, len(written)) == written


def test_an_empty_last_line_is_told_by_the_count(tmp_path):
  path = str(tmp_path / "task_1_predictions")
  for written in (["a", ""], ["a", "", ""], [""]):
    mesh_utils.write_lines_to_file(written, path)
    assert lines.read_lines(path) == written
    for writer in (mesh_utils, t5_utils):
      writer.write_lines_to_file(written, path)
      assert lines.read_lines(path, len(written)) == written
  # A number that does not fit is seen by whoever counts.
  assert lines.read_lines(path, 3) == []


def test_what_cannot_be_read_is_said(tmp_path):
  path = tmp_path / "task_targets"
  with pytest.raises(errors.UserError, match=r"targets cannot be read \(No"):
    lines.read_lines(str(path))
  path.write_bytes(b"a\nb\xff\n")
  with pytest.raises(errors.UserError, match="line 2 is not UTF-8"):
    lines.read_lines(str(path))
