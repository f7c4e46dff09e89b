"""A task in a file of its own, outside this repository, mixed with GLUE.

The file and the flags are those of the README, section "Your own task".
"""

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
    lines = [f"shout: {word}\t{word.upper()}!" for word in words]
    (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
  alone, mixed = re.findall(r"```sh\n(python -m .*?)```", section, re.DOTALL)
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
  evaluates = "--gin_file=experiments/local_eval.gin"
  runs = alone, [*alone, evaluates], mixed, [*mixed, evaluates]
  _, of_alone, of_mixed = (
    set(re.findall(r"^step 2  (\S+)  ", part, re.M))
    for part in command.run(*runs, python_path=tmp_path).split("\neval: /")
  )
  assert of_alone == {"shout_v1"}
  assert of_mixed == {"glue_cola_v002", "glue_rte_v002", "shout_v1"}
  for name in ("alone", "run"):
    targets = tmp_path / name / "validation_eval" / "shout_v1_targets"
    assert targets.read_text().split() == ["I!", "J!", "K!", "L!"]
