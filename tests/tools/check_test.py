"""A run is checked and not started."""

import os
import types

import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import lock
from hypergrid_mtf.run.checks import data as data_checks
from tests.hypergrid_mtf import command_line
from tests.tools.serving import model_dirs
from tools import check


@pytest.fixture(autouse=True)
def _reset():
  yield
  command_line.reset()


def _check(folder, *more):
  command_line.call(
    f"--model_dir={folder}",
    *command_line.EMBEDDED,
    *more,
    program=check.main,
  )


def test_a_run_that_can_start(tmp_path, capsys):
  short = "run.sequence_length = {'inputs': 8, 'targets': 32}"
  t5 = model_dirs.make(tmp_path / "t5", "vanilla", size="tiny")
  _check(
    tmp_path / "run",
    f"--gin_param={short}",
    f"--gin_param=run.init_checkpoint = '{t5}'",
    "--gin_param=run.train_steps = 9",
  )
  said = capsys.readouterr().out.splitlines()
  at = said.index(f"warm start from {t5}/model.ckpt-7, at step 7")
  kinds = [line.split()[:2] for line in said[at + 1 : at + 6]]
  assert kinds[1] == ["fresh", "12"]  # HyperGrid's own
  assert kinds[2:] == [["missing", "0"], ["reshaped", "0"], ["unused", "0"]]
  assert said[-1] == "train: all checks passed"
  cut = [line for line in said if line.startswith("run.sequence_length: ")]
  assert cut and all("sampled inputs of embedded_" in line for line in cut)
  assert os.listdir(tmp_path / "run") == [lock.NAME]


def test_a_run_that_cannot(tmp_path):
  with pytest.raises(errors.UserError, match="run.mode = 'trian' is unknown"):
    _check(tmp_path / "run", "--gin_param=run.mode = 'trian'")


def test_what_is_cut():
  class Vocabulary:
    def encode(self, text):
      return text.split()

  feature = types.SimpleNamespace(vocabulary=Vocabulary(), add_eos=True)
  features = {"inputs": feature, "targets": feature}
  run = types.SimpleNamespace(
    mixture=types.SimpleNamespace(output_features=features),
    lengths={"inputs": 4, "targets": 2},
    input_lines={},
    examples={
      "a": [
        {"inputs_pretokenized": b"1 2 3", "targets_pretokenized": b"1"},
        {"inputs_pretokenized": b"1 2 3 4", "targets_pretokenized": b"1"},
      ],
      "b": [{"inputs_pretokenized": b"1", "targets_pretokenized": b"1"}],
      "b_task_token": [{"inputs_pretokenized": b"1 2 3"}],
    },
  )
  assert data_checks.note_cuts(run) == [
    "run.sequence_length: 1 of 1 sampled inputs of b_task_token have more than "
    "4 tokens (up to 5) and are cut",
    "run.sequence_length: 1 of 2 sampled inputs of a have more than 4 tokens "
    "(up to 5) and are cut",
  ]
  run.lengths = None
  assert not data_checks.note_cuts(run)
