"""Which results are read together, and which are refused."""

import copy
import json

import pytest

from hypergrid_mtf import errors
from tests.tools.experiments import made_up
from tools.experiments import load, render


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    (dict(protocol={"run.dataset_split": "test"}), "different protocols"),
    (
      dict(data={made_up.COPY: dict(examples=200, hash="i")}),
      "different data of",
    ),
    (dict(seed=0), "are both seed 0 of vanilla"),
    (dict(config_hash="d"), "seeds of vanilla have different configurations"),
  ],
)
def test_what_does_not_belong_together_is_refused(folder, change, sentence):
  found = copy.deepcopy(made_up.results())
  found[1].update(change)
  with pytest.raises(errors.UserError, match=sentence):
    load.load(folder(found))


def test_results_from_before_and_after_a_gin_file_said_less_go_together(folder):
  found = copy.deepcopy(made_up.results())
  found[0]["protocol"]["Bitransformer.decode.beam_size"] = "1"
  found[1]["protocol"].pop("Bitransformer.decode.beam_size", None)
  assert len(load.load(folder(found))[0]) == len(found)


def test_a_damaged_file_is_named_and_skipped(folder, tmp_path):
  path = folder(made_up.results())
  text = (tmp_path / "3.json").read_text()
  (tmp_path / "3.json").write_text(text[: len(text) // 2])
  (tmp_path / "8.json").write_text("{}")
  result = made_up.results()[0]
  (tmp_path / "9.json").write_text(json.dumps({**result, "data": None}))
  del result["parameters"]
  (tmp_path / "90.json").write_text(json.dumps(result))
  result = made_up.results()[0]
  result["metrics"][made_up.COPY]["sequence_accuracy"]["20"] = None
  (tmp_path / "91.json").write_text(json.dumps(result))
  found, skipped = load.load(path)
  assert len(found) == 7
  assert [s.split("/")[-1].split(" (")[0] for s in skipped] == [
    "3.json is damaged",
    "8.json is not a result",
    "9.json is not a result",
    "90.json is not a result",
    "91.json is not a result",
  ]
  assert '"schema" is not 1' in skipped[1]
  assert '"data" is not an object' in skipped[2]
  assert 'it has no "parameters"' in skipped[3]
  assert "at step 20 is None, not a number" in skipped[4]
  table = render.scores_table(load.by_model(found), "last").set_index("task")
  assert (
    table.loc[made_up.COPY, "L2"] == "80.00 (1)"
  )  # not averaged with a zero
  for name in tmp_path.glob("*.json"):
    name.unlink()
  with pytest.raises(errors.UserError, match="holds no results"):
    load.load(path)
