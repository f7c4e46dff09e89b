"""A user's task and gate, in files outside this repository.

The files and the flags are those of docs/tasks.md and docs/variants.md.
"""

import json
import re
import shlex

import pytest

from tests import command

EVAL = "--gin_file=experiments/local_eval.gin"
SHORT = (
  "--gin_param=run.train_steps = 2",
  "--gin_param=run.batch_size = ('sequences_per_batch', 4)",
)
# In the file of the gate, to be refused.
WRONG = """

@gin.configurable
def of_rows(logits):
  return mtf.reduce_sum(logits, reduced_dim=logits.shape.dims[-1])


@gin.configurable
def misspelt(logits):
  return mtf.tahn(logits)
"""


def _section(document: str, heading: str) -> str:
  text = (command.ROOT / document).read_text()
  return re.split(r"^## ", text.split(f"## {heading}\n")[1], flags=re.M)[0]


def _flags(line: str, **instead) -> list[str]:
  """The flags of a command of a page, some of them with other values."""
  words = shlex.split(line.replace("\\\n", " "))
  assert words[:3] == ["python", "-m", "hypergrid_mtf.main"]
  given = (word[2:].split("=", 1) for word in words[3:])
  return [f"--{flag}={instead.get(flag, value)}" for flag, value in given]


def _gate_runs(folder) -> dict[str, list[str]]:
  model = [
    f"--model_dir={folder}/gate",
    "--gin_file=models/nano.gin",
    "--gin_file=hypergrid/L2.gin",
    "--gin_file=experiments/embedded.gin",
    "--gin_param=MIXTURE_NAME = 'embedded_copy_v1'",
    *SHORT,
  ]
  gate = "--gin_param=HyperGrid.gate = "
  mine = [*model, "--module_import=my_gate", f"{gate}@my_gate"]
  fresh = f"--model_dir={folder}/fresh"
  return {
    "train": mine,
    "eval": [*mine, EVAL],
    "sharper": [*mine, EVAL, "--gin_param=my_gate.sharpness = 3.0"],
    "default": [*model, EVAL],
    "of_rows": [*mine, fresh, f"{gate}@of_rows"],
    "misspelt": [*mine, fresh, f"{gate}@misspelt"],
  }


def _task_runs(folder, section: str, tfds_dir) -> dict[str, list[str]]:
  shown = re.compile(r"```sh\n(python -m .*?)```", re.DOTALL)
  alone, mixed = shown.findall(section)
  table = shown.search(_section("README.md", "Your own task"))[1]
  table = re.sub(r"'(train|dev)\.", rf"'{folder}/\1.", table)
  lines = {
    "alone": _flags(alone, model_dir=folder / "alone"),
    "mixed": _flags(
      mixed,
      model_dir=folder / "mixed",
      t5_tfds_data_dir=tfds_dir,
      vocabulary="bytes",
    )
    + ["--gin_file=models/nano.gin"],
    "table": _flags(table, model_dir=folder / "table"),
  }
  return {
    f"{mode} {name}": [*line, *SHORT, *more]
    for name, line in lines.items()
    for mode, more in (("train", ()), ("eval", (EVAL,)))
  }


@pytest.fixture(scope="module")
def done(tfds_dir, tmp_path_factory):
  """(folder, `command.outcomes`)"""
  folder = tmp_path_factory.mktemp("own")
  of_gate = _section("docs/variants.md", "Your own gate")
  of_task = _section("docs/tasks.md", "A task in Python")
  for name, section, more in (
    ("my_gate", of_gate, WRONG),
    ("my_tasks", of_task, ""),
  ):
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (folder / f"{name}.py").write_text(code + more)
  for name, words in (("train", "abcdefgh"), ("dev", "ijkl")):
    pairs = [(f"shout: {word}", f"{word.upper()}!") for word in words]
    for ending, lines in (
      ("tsv", ["\t".join(pair) for pair in pairs]),
      ("csv", ["inputs,targets", *(",".join(pair) for pair in pairs)]),
      ("jsonl", [json.dumps(dict(inputs=a, targets=b)) for a, b in pairs]),
    ):
      (folder / f"{name}.{ending}").write_text("\n".join(lines) + "\n")
  runs = _gate_runs(folder) | _task_runs(folder, of_task, tfds_dir)
  return folder, command.outcomes(runs, folder)


def test_a_task_trains_and_evaluates_alone_with_glue_and_of_tables(done):
  folder, found = done
  for name, mine, others in (
    ("alone", "shout_v1", set()),
    ("mixed", "shout_v1", {"glue_cola_v002", "glue_rte_v002"}),
    ("table", "shout", set()),
  ):
    for mode in ("train", "eval"):
      one = found[f"{mode} {name}"]
      assert one["outcome"] == "done", one["error"]
    tasks = set(re.findall(r"^step 2  (\S+)  ", one["said"], re.M))
    assert tasks == {mine, *others}
    targets = folder / name / "validation_eval" / f"{mine}_targets"
    assert targets.read_text().split() == ["I!", "J!", "K!", "L!"]


def test_a_gate_trains_evaluates_and_is_remembered(done):
  folder, found = done
  for mode in ("train", "eval"):
    assert found[mode]["outcome"] == "done", found[mode]["error"]
  assert "step 2" in found["eval"]["said"]
  # The record that gin writes names the gate, and the layer by its gin name.
  record = (folder / "gate" / "operative_config.gin").read_text()
  assert "encoder/HyperGrid.gate = @my_gate\n" in record
  assert "my_gate.sharpness = 1.0" in record
  assert "@hypergrid_mtf.layers.HyperGrid" in record
  for name, words in {
    "sharper": ["HyperGrid.gate.sharpness", "3.0 here and 1.0"],
    "default": ["HyperGrid.gate", "'sigmoid' here and 'my_gate.my_gate'"],
    "of_rows": ["HyperGrid.gate = @my_gate.of_rows", "shape"],
    "misspelt": ["HyperGrid.gate = @my_gate.misspelt", "tahn"],
  }.items():
    assert found[name]["outcome"] == "refused", found[name]
    assert all(w in found[name]["error"] for w in words), found[name]["error"]
