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


def test_the_readmes_task_trains_and_evaluates_with_glue(tmp_path, tfds_dir):
  section = _section()
  code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
  (tmp_path / "my_tasks.py").write_text(code)
  for name, words in (("train", "abcdefgh"), ("dev", "ijkl")):
    lines = [f"shout: {word}\t{word.upper()}!" for word in words]
    (tmp_path / f"{name}.tsv").write_text("\n".join(lines) + "\n")
  line = re.search(r"```sh\n(python -m .*?)```", section, re.DOTALL)[1]
  words = shlex.split(line.replace("\\\n", " "))
  assert words[:3] == ["python", "-m", "hypergrid_mtf.main"]
  # Smaller than the README's, and with the data that tests have.
  instead = {
    "--model_dir": str(tmp_path / "run"),
    "--t5_tfds_data_dir": str(tfds_dir),
    "--vocabulary": "bytes",
  }
  flags = [
    f"{flag}={instead.get(flag, value)}"
    for flag, value in (word.split("=", 1) for word in words[3:])
  ]
  flags += [
    "--gin_file=models/micro.gin",
    "--gin_param=run.train_steps = 2",
    "--gin_param=run.batch_size = ('sequences_per_batch', 4)",
  ]
  evaluation = [*flags, "--gin_file=experiments/local_eval.gin"]
  said = command.run(flags, evaluation, python_path=tmp_path)
  evaluated = set(re.findall(r"step 2  (\S+)  ", said))
  assert {"glue_cola_v002", "glue_rte_v002", "shout_v1"} <= evaluated
  targets = tmp_path / "run" / "validation_eval" / "shout_v1_targets"
  assert targets.read_text().split() == ["I!", "J!", "K!", "L!"]
