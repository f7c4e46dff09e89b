"""A task in a file of its own, outside this repository, mixed with GLUE.

The file and the flags are those of the README, section "Your own task", and of
docs/tasks.md.
"""

import json
import pathlib
import re
import shlex

from tests import command

ROOT = pathlib.Path(__file__).parents[2]


def _section():
  readme = (ROOT / "README.md").read_text()
  return re.search(r"## Your own task\n(.*?)\n## ", readme, re.DOTALL)[1]


def _flags(line, instead):
  """The flags of a command of the README, some of them with other values."""
  words = shlex.split(line.replace("\\\n", " "))
  assert words[:3] == ["python", "-m", "hypergrid_mtf.main"]
  return [
    f"{flag}={instead.get(flag, value)}"
    for flag, value in (word.split("=", 1) for word in words[3:])
  ]


def test_the_readmes_task_trains_and_evaluates_alone_and_with_glue(
  tmp_path, tfds_dir
):
  section = _section()
  code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
  (tmp_path / "my_tasks.py").write_text(code)
  for name, words in (("train", "abcdefgh"), ("dev", "ijkl")):
    pairs = [(f"shout: {word}", f"{word.upper()}!") for word in words]
    for ending, lines in (
      ("tsv", ["\t".join(pair) for pair in pairs]),
      ("csv", ["inputs,targets", *(",".join(pair) for pair in pairs)]),
      ("jsonl", [json.dumps(dict(inputs=a, targets=b)) for a, b in pairs]),
    ):
      text = "\n".join(lines) + "\n"
      (tmp_path / f"{name}.{ending}").write_text(text)
  page = (ROOT / "docs/tasks.md").read_text().split("## Pairs in ")[1]
  command_line = re.compile(r"```sh\n(python -m .*?)```", re.DOTALL)
  alone, mixed = command_line.findall(section)
  table = command_line.search(page)[1]
  # Smaller than the README's, and with the data that tests have.
  less = [
    "--gin_param=run.train_steps = 2",
    "--gin_param=run.batch_size = ('sequences_per_batch', 4)",
  ]
  alone = [*_flags(alone, {"--model_dir": str(tmp_path / "alone")}), *less]
  instead = {
    "--model_dir": str(tmp_path / "run"),
    "--t5_tfds_data_dir": str(tfds_dir),
    "--vocabulary": "bytes",
  }
  mixed = [*_flags(mixed, instead), "--gin_file=models/nano.gin", *less]
  table = re.sub(r"'(train|dev)\.", rf"'{tmp_path}/\1.", table)
  table = [*_flags(table, {"--model_dir": str(tmp_path / "table")}), *less]
  evaluates = "--gin_file=experiments/local_eval.gin"
  runs = [(line, [*line, evaluates]) for line in (alone, mixed, table)]
  _, of_alone, of_mixed, of_table = (
    set(re.findall(r"^step 2  (\S+)  ", part, re.M))
    for part in command.run(*sum(runs, ()), python_path=tmp_path).split(
      "\neval: /"
    )
  )
  assert of_alone == {"shout_v1"}
  assert of_mixed == {"glue_cola_v002", "glue_rte_v002", "shout_v1"}
  assert of_table == {"shout"}
  for name, task in (
    ("alone", "shout_v1"),
    ("run", "shout_v1"),
    ("table", "shout"),
  ):
    targets = tmp_path / name / "validation_eval" / f"{task}_targets"
    assert targets.read_text().split() == ["I!", "J!", "K!", "L!"]
