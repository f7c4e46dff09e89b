"""tools.gates: the picture and the numbers that it writes."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from hypergrid_mtf import errors
from tests import program
from tests.tools.serving import model_dirs
from tools import gates


def test_the_command(tmp_path, monkeypatch):
  """Pictures and numbers are written."""
  folder = model_dirs.make(tmp_path, "L2", size="micro")
  output = tmp_path / "gates.png"
  given = f"--model_dir={folder}", f"--output={output}", "--examples=3"
  program.run("tools.gates", given, monkeypatch)
  assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
  with np.load(tmp_path / "gates.npz") as arrays:
    assert arrays["embedded_copy_v1/encoder/block_000"].shape == (16, 16)
  (events,) = (tmp_path / "gates").glob("events*")
  tags = {
    value.tag: event.step
    for event in tf.train.summary_iterator(str(events))
    for value in event.summary.value
  }
  assert tags == {"gates": 7, "distances between tasks": 7}
  assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
  ("output", "expected"),
  [
    ("d/gates.png", ("png", "d/gates.npz")),
    ("d/gates.PDF", ("pdf", "d/gates.npz")),
    ("gates", ("png", "gates.npz")),
  ],
)
def test_the_picture_and_the_numbers_have_names_of_their_own(output, expected):
  assert gates.paths_of(output) == (output, *expected)


@pytest.mark.parametrize("suffix", [".npz", ".txt", ".v2"])
def test_a_picture_that_cannot_be_is_refused(suffix):
  with pytest.raises(errors.UserError) as e:
    gates.paths_of(f"d/g{suffix}")
  assert f"--output=d/g{suffix} is for the picture" in str(e.value)
  assert "give d/g.png" in str(e.value) and "d/g.npz" in str(e.value)
