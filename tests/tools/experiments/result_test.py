"""Results collected from the files that a run leaves, and read together."""

import json
import math
import pathlib

import pytest

from hypergrid_mtf import errors
from tests import docs_test, testing
from tests.tools.experiments import event_files, made_up
from tools.experiments import result

TASK = "glue_sst2_v002"
CONFIG = """\
# Macros:
# ==============================================================================
d_model = 64
MIXTURE_NAME = 'glue_sst2_v002'

# Parameters for run:
# ==============================================================================
run.batch_size = \\
    ('sequences_per_batch',
     64)
run.model_dir = '{folder}'
mesh_train_dataset_fn.seed = {seed}
use_vocabulary.name = '{folder}/vocabulary.model'
"""


def write_run(folder: pathlib.Path, seed=0, scores=(75.0, 50.0)) -> str:
  """A model_dir of a run that was evaluated at steps 10 and 20."""
  folder.mkdir()
  (folder / "vocabulary.model").write_text("pieces")
  text = CONFIG.format(folder=folder, seed=seed)
  (folder / "operative_config.gin").write_text(text)
  kernel = "encoder/wi/kernel"
  variables = {"shared/embedding": (8, 4), kernel: (4, 6)}
  variables[f"{kernel}_slot_v"] = (4, 6)
  testing.write_checkpoint(folder, variables, steps=(20,))
  eval_folder = folder / "validation_eval"
  eval_folder.mkdir()
  (eval_folder / "config.gin").write_text(
    "run.dataset_split = 'validation'\nBitransformer.decode.beam_size = 1\n"
  )
  for step, value in zip((10, 20), scores, strict=True):
    event = (1.0, step, {f"{TASK}/accuracy": value})
    event_files.write(eval_folder, 1000.0 + step, event)
  (eval_folder / f"{TASK}_targets").write_text("1\n1\n1\n1\n")
  (eval_folder / f"{TASK}_inputs").write_text("a\nb\nc\nd\x85\n")
  return str(folder)


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  return [
    result.collect(write_run(root / f"s{seed}", seed), "L2", seed)
    for seed in (0, 1)
  ]


def test_parameters_that_a_filter_trains(tmp_path):
  found = result.count_parameters(write_run(tmp_path / "run"), "/wi/")
  assert found == {"total": 56, "beside_embedding": 24, "trained": 24}


def test_everything_is_there(collected):
  found = json.loads(result.to_text(collected[0]))
  assert found["metrics"] == {TASK: {"accuracy": {"10": 75.0, "20": 50.0}}}
  assert found["steps"] == 20 and found["seed"] == 0 and found["cell"] == "L2"
  assert found["parameters"] == {
    "total": 56,
    "beside_embedding": 24,
    "trained": 56,
  }
  assert found["data"][TASK]["examples"] == 4
  assert found["protocol"] == {
    "run.dataset_split": "'validation'",
    "Bitransformer.decode.beam_size": "1",
  }
  assert {"cpu", "cores", "memory_bytes"} == set(found["hardware"])
  assert {"tensorflow", "t5", "mesh-tensorflow"} <= set(found["versions"])
  of_sweeps = {"name", "flags", "wall_seconds"}
  assert docs_test.fields({**found, **dict.fromkeys(of_sweeps)}) == set()


def test_the_configuration_is_free_of_places_and_seeds(collected):
  first, second = collected
  assert first["config"] == second["config"]
  assert first["config_hash"] == second["config_hash"]
  assert first["config"]["run.batch_size"] == "('sequences_per_batch', 64)"
  vocabulary = first["config"]["use_vocabulary.name"]
  assert vocabulary.startswith("vocabulary.model (")
  changed = {**first["config"], "d_model": "128"}
  assert result.config_hash(changed) != first["config_hash"]


def test_what_is_not_a_number_is_standard_json(collected, tmp_path):
  stsb = {"pearson_corrcoef": {"20": math.nan, "30": -math.inf}}
  metrics = {**collected[0]["metrics"], "glue_stsb_v002": stsb}
  losses = {"1": math.inf, "2": 4.0}
  text = result.to_text({**collected[0], "metrics": metrics, "losses": losses})

  def refuse(word):
    raise AssertionError(f"{word} is not JSON")

  written = json.loads(text, parse_constant=refuse)["metrics"]["glue_stsb_v002"]
  assert written == {"pearson_corrcoef": {"20": "nan", "30": "-inf"}}
  path = tmp_path / "x.json"
  # A file of an earlier version has the word.
  for text_ in (text, text.replace('"nan"', "NaN")):
    path.write_text(text_)
    ((found,), _) = result.load(str(path))
    assert found["losses"] == losses
    assert math.isnan(
      found["metrics"]["glue_stsb_v002"]["pearson_corrcoef"]["20"]
    )


def test_losses_of_a_training_that_was_resumed(tmp_path):
  """The later file counts, a part of very many; nan is kept."""
  steps = [(float(i), i, {"loss": 5.0, "learning_rate": 0.1}) for i in (1, 2)]
  event_files.write(tmp_path, 1000.0, *steps, prefix="")
  later = (0.0, 2, {"loss": 3.0}), (1.5, 3, {"loss": math.nan})
  event_files.write(tmp_path, 2000.0, *later, prefix="")
  seconds, losses = result.read_training(str(tmp_path))
  assert seconds == 3.5 and list(losses) == ["1", "2", "3"]
  assert losses["2"] == 3.0 and math.isnan(losses["3"])
  many = [(0.0, i, {"loss": 1.0}) for i in range(4, 1000)]
  event_files.write(tmp_path, 3000.0, *many, prefix="")
  _, losses = result.read_training(str(tmp_path))
  assert 150 <= len(losses) <= 200 and list(losses)[:2] == ["1", "6"]


def test_what_is_no_run_is_said(tmp_path):
  with pytest.raises(errors.UserError, match="operative_config"):
    result.collect(str(tmp_path), "L2", 0)
  folder = tmp_path / "run"
  write_run(folder)
  with pytest.raises(errors.UserError, match="of the split 'test'"):
    result.collect(str(folder), "L2", 0, "test")
  # A task without inputs has its targets.
  (folder / "validation_eval" / f"{TASK}_inputs").unlink()
  assert result.collect(str(folder), "L2", 0)["data"][TASK]["examples"] == 4
  (folder / "validation_eval" / "config.1015.5.gin").write_text(
    "run.dataset_split = 'validation'\nBitransformer.decode.beam_size = 4\n"
  )
  with pytest.raises(errors.UserError, match="beam_size is 1 .* and 4 for"):
    result.collect(str(folder), "L2", 0)
  index = folder / "model.ckpt-20.index"
  index.write_bytes(index.read_bytes()[:20])
  with pytest.raises(errors.UserError, match="model.ckpt-20 .* cannot be read"):
    result.count_parameters(str(folder))
  (folder / "checkpoint").unlink()
  with pytest.raises(errors.UserError, match="has .*checkpoint"):
    result.count_parameters(str(folder))


def test_a_folder_that_glob_would_misread(tmp_path):
  (tmp_path / "run[1]").mkdir()
  event_files.write(tmp_path / "run[1]", 1000.0, (0.0, 1, {}), (7.5, 2, {}))
  assert result.read_training(str(tmp_path / "run[1]")) == (7.5, {})
  (tmp_path / "run[1]" / "0.json").write_text(json.dumps(made_up.results()[0]))
  assert len(result.load(str(tmp_path / "run[1]"))[0]) == 1


def _load(folder, found):
  for i, one in enumerate(found):
    (folder / f"{i}.json").write_text(json.dumps(one))
  return result.load(str(folder))


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    (dict(protocol={"run.dataset_split": "test"}), "is test and validation"),
    (
      dict(data={made_up.COPY: dict(examples=200, hash="i")}),
      "different data of",
    ),
    (dict(seed=0), "are both seed 0 of vanilla"),
    (dict(config_hash="d"), "seeds of vanilla have different configurations"),
  ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, change, sentence):
  found = made_up.results()
  found[1].update(change)
  with pytest.raises(errors.UserError, match=sentence):
    _load(tmp_path, found)


def test_results_from_before_and_after_a_gin_file_said_less(tmp_path):
  found = made_up.results()
  found[0]["protocol"]["Bitransformer.decode.beam_size"] = "1"
  found[1]["predictions"] = {made_up.COPY: {"20": {"correct": "01"}}}
  assert len(_load(tmp_path, found)[0]) == len(found)


def test_a_damaged_file_is_named_and_skipped(tmp_path):
  good = made_up.results()[0]
  changes = [
    ({"schema": 2}, '"schema" is not 1'),
    ({"data": None}, '"data" is not an object'),
    ({"metrics": {}}, '"metrics" are empty'),
    ({"metrics": {"a": {"b": {"20": None}}}}, "NoneType"),
  ]
  found = [{**good, **change} for change, _ in changes]
  found.append({k: v for k, v in good.items() if k != "parameters"})
  (tmp_path / "a.json").write_text(json.dumps(good)[:100])
  kept, skipped = _load(tmp_path, [good, *found])
  assert [r["path"] for r in kept] == [f"{tmp_path}/0.json"]
  says = [*(words for _, words in changes), 'it has no "parameters"', "damaged"]
  for i, (sentence, words) in enumerate(zip(skipped, says, strict=True), 1):
    assert words in sentence
    assert f"/{i if i < 6 else 'a'}.json is " in sentence
  (tmp_path / "0.json").unlink()
  with pytest.raises(errors.UserError, match="has no results"):
    result.load(str(tmp_path))
