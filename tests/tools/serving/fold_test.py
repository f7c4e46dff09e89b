"""tools.fold: the same function in plain T5 weights, and what is refused."""

import json
import os

import gin
import numpy as np
import pytest
import seqio

from hypergrid_mtf import checkpoints, errors, trained, weights
from hypergrid_mtf import model as model_lib
from hypergrid_mtf.run.checks import training_record
from tests import program
from tests.tools.serving import model_dirs
from tools.serving import folding, model_card

TASKS = ("embedded_copy_v1_task_token", "embedded_sort_v1_task_token")


def _fold(monkeypatch, model_dir, output_dir, *arguments):
  given = (f"--model_dir={model_dir}", f"--output_dir={output_dir}")
  program.run("tools.fold", [*given, "--examples=20", *arguments], monkeypatch)
  return str(output_dir)


def _difference(a, b, targets):
  return np.abs(a - b)[targets > 0].max()


def test_a_folded_model_computes_the_same_for_its_task(
  model_dir, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)  # and relative paths, as in the documents
  for task, short in zip(TASKS, ("copy", "sort"), strict=True):
    _fold(monkeypatch, model_dir, task, f"--task={short}")
  said = capsys.readouterr().out
  assert "the gates of 2 layers are in its weights" in said
  assert "for inputs that begin with token 342, '<extra_id_16>'; the" in said
  rows = {task: model_dirs.examples(task, 16) for task in TASKS}
  with trained.open_model(model_dir) as source:
    gated = {t: model_dirs.logits(source, *rows[t]) for t in TASKS}
  os.rename(TASKS[1], "moved")
  for task, folder in zip(TASKS, (TASKS[0], "moved"), strict=True):
    found = model_dirs.logits_of(folder, *rows[task])
    assert _difference(found, gated[task], rows[task][1]) < 1e-5
  # The tasks' gates do differ: another task's fold computes something else.
  other = model_dirs.logits_of(TASKS[0], *rows[TASKS[1]])
  assert _difference(other, gated[TASKS[1]], rows[TASKS[1]][1]) > 0.01
  record = json.loads((tmp_path / TASKS[0] / model_card.FOLD).read_text())
  assert (record["task"], record["token"]) == (TASKS[0], 342)
  assert record["tasks_of_the_same_gates"] == []
  (gates,) = record["gates"]
  assert gates.startswith("L2, sigmoid, a grid of 16 x 16 over wo, conditioned")
  assert len(record["gates"][gates]) == 2
  assert set(record["training"]["data"]) > set(TASKS)
  tasks = [seqio.TaskRegistry.get(task) for task in rows]
  assert folding.tasks_of_token(tasks, 342) == [TASKS[0]]
  assert sorted(os.listdir(tmp_path)) == [TASKS[0], "moved"]  # no .part
  _check_vanilla(tmp_path / TASKS[0], tmp_path)


def _check_vanilla(folder, tmp_path):
  """What is written is what a training of t5's own layers leaves."""
  config = (folder / training_record.CONFIG).read_text()
  assert "HyperGrid" not in config and "hypergrid" not in config
  assert f"MIXTURE_NAME = '{TASKS[0]}'" in config
  vanilla = model_dirs.make(tmp_path / "vanilla", "vanilla", mixture=TASKS[0])
  paths = [checkpoints.latest_checkpoint(str(f)) for f in (folder, vanilla)]
  assert checkpoints.step_of(paths[0]) == model_dirs.STEP
  a, b = (checkpoints.reader_shapes(path, "") for path in paths)
  assert a == b
  a, b = (training_record.trained_facts(str(f)) for f in (folder, vanilla))
  assert a == b


@pytest.mark.parametrize(
  ("variant", "bindings"),
  [
    (
      "row+encoder_only",
      ("HyperGrid.hidden_size = 32", "HyperGrid.activation = 'gelu'"),
    ),
    (
      "LG",
      (
        "HyperGrid.gate = 'two_sigmoid'",
        "HyperGrid.gated_kernel = 'wi'",
        *model_dirs.T5_1_1,
      ),
    ),
    ("GG", ("HyperGrid.condition_on = 'first_token'",)),
    ("peers/ia3", model_dirs.T5_1_1),
  ],
)
def test_all_forms_of_the_layer(tmp_path, variant, bindings):
  """Without the data: the token of a task begins the inputs."""
  if "/" not in variant:
    bindings = model_dirs.TASK_TOKEN, *bindings
  model_dir = model_dirs.make(tmp_path / "model", variant, bindings)
  rng = np.random.default_rng(0)
  rows = rng.integers(3, 300, [4, 10]).astype(np.int32)
  rows[:, 0] = 342
  with trained.open_model(model_dir) as source:
    folding.check_foldable(source.model, model_dir)
    gated = model_dirs.logits(source, rows, rows[:, 3:])
    folded = folding.fold(source, 342)
    ungated = {n: source.weights[n].astype("f") for n in folded}
    config = folding.vanilla_config(None)
  found = []
  for name, values in (("folded", folded), ("ungated", ungated)):
    (tmp_path / name).mkdir()
    (tmp_path / name / training_record.CONFIG).write_text(config)
    weights.write(str(tmp_path / name), 1, values)
    found.append(model_dirs.logits_of(tmp_path / name, rows, rows[:, 3:]))
  assert np.abs(gated - found[0]).max() < 1e-5
  assert np.abs(gated - found[1]).max() > 0.01


@pytest.mark.parametrize(
  ("variant", "bindings", "match"),
  [
    ("vanilla", (), "has no HyperGrid layers"),
    (
      "L2",
      (),
      r"'first_token' \(encoder/block_000/layer_001\).*depend on the hid",
    ),
    ("L2", ("Unitransformer.ensemble = 2",), "is an ensemble"),
    ("../peers/adapter", (), "its adapters are layers of their own"),
    ("../peers/hyperprompt_sep", (), "its prompts are keys and values"),
  ],
)
def test_models_that_are_refused(variant, bindings, match):
  paths = ["models/nano.gin", f"hypergrid/{variant}.gin"]
  model_lib.bind(paths, bindings)
  if bindings:
    gin.bind_parameter("HyperGrid.condition_on", "task_token")
  with pytest.raises(errors.UserError, match=match):
    folding.check_foldable(model_lib.build(384), "x")


@pytest.mark.parametrize(
  ("arguments", "match"),
  [
    (["--task=rte"], "is not a task of the mixture.*choose one of copy, dedup"),
    ([], "--task is missing: give one of copy"),
    (["--output_dir=/"], "already exists and is not overwritten"),
  ],
)
def test_what_is_refused(model_dir, tmp_path, monkeypatch, arguments, match):
  with pytest.raises(errors.UserError, match=match):
    _fold(monkeypatch, model_dir, tmp_path / "out", *arguments)
  assert not os.listdir(tmp_path)


def test_inputs_that_begin_differently_are_refused(monkeypatch):
  rows = {"mine": [{"inputs": [5, 1]}, {"inputs": [7, 1]}]}
  monkeypatch.setattr(folding.data_checks, "check_data", lambda *_: None)
  monkeypatch.setattr(folding.examples_lib, "first_examples", lambda *_: rows)
  monkeypatch.setattr(folding.vocabularies, "check_vocabulary", lambda *_: None)
  task = type("Task", (), {"name": "mine", "splits": ("train",)})
  with pytest.raises(errors.UserError, match="different tokens, 5 .* and 7"):
    folding.read_task_token(task, 2, None)


def test_the_latest_is_another_where_a_training_removes_it(tmp_path, capsys):
  """While it is read: by export, folding and the way to Hugging Face."""
  folder = model_dirs.make(tmp_path / "model")
  with trained.open_model(folder) as source:
    values = source.weights
  for step in (None, 9):
    with trained.open_model(folder, step) as source:
      old = source.step
      for path in (tmp_path / "model").glob(f"model.ckpt-{old}.*"):
        path.unlink()
      weights.write(folder, old + 2, values)
      if step is not None:
        with pytest.raises(errors.UserError, match="ckpt-9 .* cannot be read"):
          _ = source.weights
        continue
      assert source.weights.keys() == values.keys() and source.step == old + 2
      assert "a training removed the checkpoint" in capsys.readouterr().out
