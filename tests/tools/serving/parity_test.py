"""Whole models on real text against Hugging Face's TensorFlow T5; folds.

`make parity-test` trains small models for some steps and prints what it found;
docs/huggingface.md has the result of the last run.
"""

import gin
import numpy as np
import pytest

from hypergrid_mtf import checkpoints, trained, weights
from t5_tasks import embedded
from tests import program
from tests.tools.serving import glue_models, model_dirs, transformers_t5

pytestmark = pytest.mark.slow

EMBEDDED_TASKS = [
  f"{embedded.task_name(f)}_task_token" for f in embedded.FUNCTIONS
]
_LENGTHS = (128, 16)


def _program(monkeypatch, name, *arguments) -> None:
  program.run(f"tools.{name}", arguments, monkeypatch)
  gin.clear_config()


def _examples(tasks, count, lengths=_LENGTHS):
  rows = [model_dirs.examples(task, count, lengths) for task in tasks]
  return tuple(np.concatenate(parts) for parts in zip(*rows, strict=True))


def _difference(a, b, targets) -> float:
  return float(np.abs(a - b)[targets > 0].max())


def _compute(folder, inputs, targets):
  """Logits, and greedy tokens."""
  with trained.open_model(str(folder)) as source:
    return (
      model_dirs.logits(source, inputs, targets),
      model_dirs.decode(source, inputs, 16),
    )


def _same_bits(monkeypatch, model_dir, there, back) -> None:
  """A conversion back has the bits that were converted."""
  _program(
    monkeypatch,
    "huggingface",
    "from",
    f"--input_dir={there}",
    f"--output_dir={back}",
  )
  before, after = (
    checkpoints.latest_checkpoint(str(f)) for f in (model_dir, back)
  )
  shapes = checkpoints.reader_shapes(after, "")
  values = [weights.read_all(path, shapes) for path in (before, after)]
  for name in shapes:
    assert values[0][name].tobytes() == values[1][name].tobytes(), name


def _random(folder, vocabulary, size) -> str:
  """A model of published size, random weights, and the GLUE vocabulary."""
  bindings = [
    "utils.get_variable_dtype.master_dtype = 'float32'",
    "utils.get_variable_dtype.activation_dtype = 'float32'",
    f"t5_tasks.vocabularies.use_vocabulary.name = {vocabulary!r}",
  ]
  return model_dirs.make(
    folder, "vanilla", bindings, size, glue_models.MIXTURE, "local_glue"
  )


@pytest.mark.parametrize(
  "model", ["glue_t5_1_0", "glue_t5_1_1", "small", "t5_1_1_small"]
)
def test_vanilla(trained_models, tmp_path, monkeypatch, model):
  """100 real inputs: logits within 1e-4, the same greedy tokens."""
  if model.startswith("glue"):
    model_dir = trained_models.folder(model)
  else:
    model_dir = _random(tmp_path / model, trained_models.vocabulary, model)
  there, back = tmp_path / "there", tmp_path / "back"
  _program(
    monkeypatch,
    "huggingface",
    "to",
    f"--model_dir={model_dir}",
    f"--output_dir={there}",
  )
  inputs, targets = _examples(glue_models.TASKS, 20)
  assert len(inputs) == 100
  ours, our_tokens = _compute(model_dir, inputs, targets)
  other = transformers_t5.load(str(there))
  theirs = transformers_t5.logits(other, inputs, targets)
  difference = _difference(ours, theirs, targets)
  largest = np.abs(ours[targets > 0]).max()
  tokens = transformers_t5.greedy(other, inputs, 16)
  print(
    f"\n{model}: largest logit difference {difference:.2g} of {largest:.3g}; "
    f"{len(np.unique(tokens, axis=0))} different answers"
  )
  assert difference <= 1e-4
  np.testing.assert_array_equal(our_tokens, tokens)
  _same_bits(monkeypatch, model_dir, there, back)


@pytest.mark.parametrize(
  ("model", "tasks", "lengths"),
  [
    ("embedded_l2", EMBEDDED_TASKS, (24, 16)),
    ("glue_l2", glue_models.TASKS, _LENGTHS),
  ],
)
def test_folds(trained_models, tmp_path, monkeypatch, model, tasks, lengths):
  """Each task: logits within 1e-5; folded and converted, the same tokens."""
  model_dir = trained_models.folder(model)
  folded_wo = {}
  for task in tasks:
    folded, there = tmp_path / task, tmp_path / f"{task}_there"
    _program(
      monkeypatch,
      "fold",
      f"--model_dir={model_dir}",
      f"--task={task}",
      f"--output_dir={folded}",
    )
    _program(
      monkeypatch,
      "huggingface",
      "to",
      f"--model_dir={folded}",
      f"--output_dir={there}",
    )
    inputs, targets = model_dirs.examples(task, 100, lengths)
    before, tokens_before = _compute(model_dir, inputs, targets)
    after, tokens_after = _compute(folded, inputs, targets)
    difference = _difference(before, after, targets)
    other = transformers_t5.load(str(there))
    there_too = _difference(
      before, transformers_t5.logits(other, inputs, targets), targets
    )
    tokens = transformers_t5.greedy(other, inputs, 16)
    print(
      f"\n{model} {task}: folded {difference:.2g}, converted {there_too:.2g} "
      f"of {np.abs(before[targets > 0]).max():.3g}; "
      f"{len(np.unique(tokens, axis=0))} different answers"
    )
    assert difference <= 1e-5
    np.testing.assert_array_equal(tokens_before, tokens_after)
    np.testing.assert_array_equal(tokens_before, tokens)
    _same_bits(monkeypatch, folded, there, tmp_path / f"{task}_back")
    path = checkpoints.latest_checkpoint(str(folded))
    name = "encoder/block_000/layer_001/DenseReluDense/wo/kernel"
    folded_wo[task] = weights.read_all(path, [name])[name]
  before_fold = weights.read_all(
    checkpoints.latest_checkpoint(model_dir), [name]
  )
  apart = [
    np.abs((folded_wo[a] - folded_wo[b]) / before_fold[name]).max()
    for i, a in enumerate(tasks)
    for b in tasks[:i]
  ]
  print(f"\n{model}: gates of two tasks differ by at least {min(apart):.2g}")
  assert min(apart) > 1e-3
