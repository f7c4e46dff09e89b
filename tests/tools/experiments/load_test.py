"""Which results are read together, and which are refused."""

import copy

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


def test_a_damaged_file_is_named_and_skipped(folder, tmp_path):
  path = folder(made_up.results())
  text = (tmp_path / "3.json").read_text()
  (tmp_path / "3.json").write_text(text[: len(text) // 2])
  (tmp_path / "8.json").write_text("{}")
  found, skipped = load.load(path)
  assert len(found) == 7
  assert "3.json is damaged" in skipped[0] and "8.json is no" in skipped[1]
  table = render.scores_table(load.by_model(found), "last").set_index("task")
  assert (
    table.loc[made_up.COPY, "L2"] == "80.00 (1)"
  )  # not averaged with a zero
  for name in tmp_path.glob("*.json"):
    name.unlink()
  with pytest.raises(errors.UserError, match="holds no results"):
    load.load(path)
