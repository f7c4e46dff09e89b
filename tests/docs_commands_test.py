"""Runs every page's commands in order, in one folder, after the README's.

They are reduced to a few steps of small models on invented data, and run by
bash.
"""

import lzma
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tests import docs_test
from tests.tools.data import benchmark_files

PAGES = ["README.md"] + [
  f"docs/{name}.md"
  for name in (
    *("running", "serving", "huggingface", "variants", "tasks"),
    *("pretraining", "experiments"),
  )
]
# What cannot run here: start of the command, and why.
SKIPPED = {
  "docker": "no Docker",
  "PYTHONPATH=": "hours, and other data: data_test reads it",
  "make": "demo_test and the suite itself",
  "python -m tools.prepare_data --download": "the internet",
  "python -m tools.huggingface from": "a public model",
  "python -m tools.benchmark": "minutes of a large model: benchmark_test",
  "python -m tools.submit": "the whole official test sets: submit_test",
}
STEPS = 4
# Later flags win; a tiny model on rows of a few tokens.
CUT = {
  "run.train_steps": STEPS,
  "run.save_checkpoints_steps": STEPS,
  "run.batch_size": "('sequences_per_batch', 4)",
  "num_layers": 1,
  "d_ff": 64,
  "d_model": 32,
}
SWEEP = "--cells=vanilla,L2 --seeds=0 --parallel=1"


def _fenced(path: pathlib.Path, language: str) -> list[str]:
  found = docs_test.FENCE.findall(path.read_text())
  return [body for kind, body in found if kind == language]


def _cut(command: str) -> str:
  """The command reduced to a few steps."""
  command = re.sub(r"model\.ckpt-\d+", f"model.ckpt-{STEPS}", command)
  command = re.sub(r"/(L2|l2)/1500", rf"/\1/{STEPS}", command)
  if command.startswith("python -m hypergrid_mtf.main --"):
    cut = {}
    if "--gin_file=models/" in command:  # else a trained model, which was cut
      cut |= CUT
    if "init_checkpoint" in command:  # whose steps count
      cut["run.train_steps"] = 2 * STEPS
    if "local_eval" in command:
      cut["Bitransformer.decode.max_decode_length"] = 2
    flags = [f"--gin_param={k} = {v}" for k, v in cut.items()]
    return f"{command} {shlex.join(flags)}"
  if command.startswith("python -m tools.sweep"):
    given = f"{SWEEP} --set=STEPS={STEPS} --set=EVERY={STEPS}"
    return f"{command} {given}"
  if command.startswith("python -m tools.train_vocabulary"):
    return f"{re.sub('--size=[0-9]+', '', command)} --size=150"
  return command


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
  """A clone, with the data that a reader of the README has."""
  folder = tmp_path_factory.mktemp("clone")
  root = docs_test.ROOT
  for name in ("hypergrid_mtf", "t5_tasks", "tools", "operative_configs"):
    (folder / name).symlink_to(root / name)
  benchmark_files.write_glue(folder / "GLUE")
  benchmark_files.write_super_glue(folder / "SUPERGLUE")
  (task,) = _fenced(root / "docs/tasks.md", "python")
  (folder / "my_tasks.py").write_text(task)
  (gate,) = [
    b for b in _fenced(root / "docs/variants.md", "python") if "my_gate(" in b
  ]
  (folder / "my_gate.py").write_text(gate)
  for name, rows in (("train", 8), ("dev", 4)):
    lines = (f"shout a{i}\tA{i}\n" for i in range(rows))
    (folder / f"{name}.tsv").write_text("".join(lines))
  rows = "".join(f"shout a{i},A{i}\n" for i in range(8))
  (folder / "train.csv").write_text(f"inputs,targets\n{rows}")
  pairs = [{"inputs": f"shout a{i}", "targets": f"A{i}"} for i in range(4)]
  benchmark_files.write_objects(folder / "dev.jsonl", pairs)
  for name in ("train", "held_out"):
    text = "".join(f"{benchmark_files.text(i)}\n" for i in range(4000))
    with lzma.open(folder / f"{name}.txt.xz", "wt", encoding="utf-8") as f:
      f.write(text)
  return folder


@pytest.mark.slow
def test_commands_of_the_pages_run_in_their_order(clone):
  path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
  environment = {**os.environ, "PATH": path, "PYTHONPATH": str(clone)}
  failed = []
  for page in PAGES:
    for body in _fenced(docs_test.ROOT / page, "sh"):
      for command in docs_test._of_shell(body):
        if command.startswith(tuple(SKIPPED)) or "gs://" in command:
          continue
        done = subprocess.run(
          ["bash", "-c", _cut(command)],
          cwd=clone,
          env=environment,
          capture_output=True,
          text=True,
          check=False,
        )
        print(f"{done.returncode} {page}: {_cut(command)}", flush=True)
        if done.returncode:
          failed.append(
            (page, command, done.stdout[-500:], done.stderr[-2000:])
          )
  assert not failed, failed
