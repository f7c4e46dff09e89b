r"""What a run says to input that cannot work, and how soon: a table.

  python -m tests.hypergrid_mtf.wrong_runs --output=docs/wrong_runs.md

Each line is a process of its own, imports included, one at a time. A busy
machine makes them slower, so seconds of CPU stand beside those of the clock.
"""

import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import seqio
from absl import app, flags

from hypergrid_mtf.run import lock
from tests import testing

ROOT = pathlib.Path(__file__).parents[2]
BASE = (
  "--gin_file=models/tiny.gin",
  "--gin_file=hypergrid/L2.gin",
  "--gin_file=experiments/embedded.gin",
)
EVAL = (*BASE, "--gin_file=experiments/local_eval.gin")
INFER = (*BASE, "--gin_file=infer.gin")
# A vocabulary that the embedded tasks do not take.
PIECES = os.path.join(
  os.path.dirname(seqio.__file__),
  "test_data/sentencepiece/sentencepiece.model",
)
# What absl says, and what names a process.
BEFORE_MAIN = (
  "unknown flag",
  "not a flag",
  "seed is not a number",
  "folder in which another trains",
)
_LONGEST = 160  # characters of a flag in the table


def bind(text: str) -> str:
  return f"--gin_param={text}"


def _infer(folder, name):
  return (
    *INFER,
    bind("infer_checkpoint_step = -1"),
    bind(f"input_filename = '{folder}/{name}'"),
    bind(f"output_filename = '{folder}/out'"),
  )


def make_files(folder: pathlib.Path) -> None:
  """What the wrong runs are given.

  Args:
    folder: empty.
  """
  (folder / "wrong.gin").write_text("run.train_steps = = 3\n")
  (folder / "empty").write_text("")
  (folder / "latin").write_bytes(b"caf\xe9\n")
  (folder / "vocabulary").write_text("not a SentencePiece model\n")
  (folder / "broken.py").write_text("import nothing_of_the_kind\n")
  for name in ("model", "cut", "lost", "none_whole"):
    variables = {"shared/embedding": (8, 4)}
    testing.write_checkpoint(folder / name, variables, steps=(20, 40))
  data = "model.ckpt-40.data-00000-of-00001"
  os.truncate(folder / "cut" / data, 9)
  (folder / "lost" / "checkpoint").unlink()
  for step in (20, 40):
    os.truncate(folder / "none_whole" / data.replace("40", str(step)), 9)


def cases(folder: pathlib.Path) -> dict[str, tuple[str, ...]]:
  """What is wrong, and the flags of such a run.

  Args:
    folder: with the files of `make_files`.
  """
  run = f"--model_dir={folder}/run"
  return {
    "no model_dir": ("--model_dir=", *BASE),
    "model_dir below a file": (f"--model_dir={folder}/empty/run", *BASE),
    "model_dir is a checkpoint": (
      f"--model_dir={folder}/model/model.ckpt-40",
      *BASE,
    ),
    "unknown flag": (run, *BASE, "--model_dri=x"),
    "not a flag": (run, *BASE, "train"),
    "seed is not a number": (run, *BASE, "--seed=x"),
    "no gin file of this name": (run, "--gin_file=models/tinny.gin"),
    "gin file is a folder": (run, *BASE, f"--gin_file={folder}"),
    "file that is not written in gin": (
      run,
      *BASE,
      f"--gin_file={folder}/wrong.gin",
    ),
    "binding that is not written in gin": (
      run,
      *BASE,
      bind("run.train_steps 3"),
    ),
    "unknown parameter": (run, *BASE, bind("run.train_step = 3")),
    "unknown configurable": (run, *BASE, bind("runn.train_steps = 3")),
    "macro that nothing defines": (run, *BASE, bind("run.train_steps = %no")),
    "macro that nothing reads": (run, *BASE, bind("d_mdoel = 64")),
    "module that is not there": (run, *BASE, "--module_import=no_such_module"),
    "unknown mode": (run, *BASE, bind("run.mode = 'trian'")),
    "a flag of the model API": (run, *BASE, "--use_model_api"),
    "vocabulary of t5 that cannot be reached": (
      run,
      *BASE[:2],
      "--gin_file=dataset.gin",
    ),
    "unknown mixture": (run, *BASE, bind("MIXTURE_NAME = 'embeded_v1'")),
    "data that are not there": (
      run,
      *BASE,
      bind("MIXTURE_NAME = 'glue_rte_v002'"),
      "--vocabulary=bytes",
      f"--t5_tfds_data_dir={folder}",
    ),
    "data folder that is not there": (
      run,
      *BASE,
      bind("MIXTURE_NAME = 'glue_rte_v002'"),
      "--vocabulary=bytes",
      f"--t5_tfds_data_dir={folder}/none",
    ),
    "vocabulary that is not there": (
      run,
      *BASE,
      f"--vocabulary={folder}/none.model",
    ),
    "file that is not a vocabulary": (
      run,
      *BASE,
      f"--vocabulary={folder}/vocabulary",
    ),
    "batch of 0 rows": (run, *BASE, bind("run.batch_size = 0")),
    "batch of tokens shorter than a row": (
      run,
      *BASE,
      bind("run.batch_size = ('tokens_per_batch', 100)"),
    ),
    "batch that the mesh does not divide": (
      run,
      *BASE,
      bind("run.mesh_shape = 'model:1,batch:3'"),
    ),
    "mesh of the wrong syntax": (
      run,
      *BASE,
      bind("run.mesh_shape = 'batch=2'"),
    ),
    "GPU that is not there": (run, *BASE, bind("run.mesh_devices = ['gpu:0']")),
    "grid rows that do not divide d_ff": (
      run,
      *BASE,
      bind("HyperGrid.grid_rows = 7"),
    ),
    "grid columns that do not divide d_model": (
      run,
      *BASE,
      bind("HyperGrid.grid_cols = 7"),
    ),
    "unknown variant": (run, *BASE, bind("HyperGrid.variant = 'LL'")),
    "unknown gate": (run, *BASE, bind("HyperGrid.gate = 'relu'")),
    "length of 0 tokens": (
      run,
      *BASE,
      bind("run.sequence_length = {'inputs': 0, 'targets': 8}"),
    ),
    "feature without a length": (
      run,
      *BASE,
      bind("run.sequence_length = {'inputs': 8}"),
    ),
    "dropout of 2": (run, *BASE, bind("dropout_rate = 2.0")),
    "steps that are text": (run, *BASE, bind("run.train_steps = 'many'")),
    "checkpoint every 0 steps": (
      run,
      *BASE,
      bind("run.save_checkpoints_steps = 0"),
    ),
    "initial checkpoint that an experiment requires": (
      run,
      *BASE[:2],
      "--gin_file=experiments/glue.gin",
    ),
    "initial checkpoint that is not there": (
      run,
      *BASE,
      bind(f"run.init_checkpoint = '{folder}/model/model.ckpt-30'"),
    ),
    "initial checkpoint of another model": (
      run,
      *BASE,
      bind(f"run.init_checkpoint = '{folder}/model/model.ckpt-40'"),
    ),
    "initial checkpoint that is damaged": (
      run,
      *BASE,
      bind(f"run.init_checkpoint = '{folder}/cut/model.ckpt-40'"),
    ),
    "resuming from another model": (f"--model_dir={folder}/model", *BASE),
    "resuming where every checkpoint is damaged": (
      f"--model_dir={folder}/none_whole",
      *BASE,
    ),
    "evaluation without a checkpoint": (run, *EVAL),
    "evaluation of a damaged checkpoint": (f"--model_dir={folder}/cut", *EVAL),
    "evaluation without the file `checkpoint`": (
      f"--model_dir={folder}/lost",
      *EVAL,
    ),
    "evaluation of a step that is not there": (
      f"--model_dir={folder}/model",
      *EVAL,
      bind("eval_checkpoint_step = 30"),
    ),
    "evaluation of a split that is not there": (
      f"--model_dir={folder}/model",
      *EVAL,
      bind("run.dataset_split = 'dev'"),
    ),
    "inputs that are not there": (
      f"--model_dir={folder}/model",
      *_infer(folder, "none"),
    ),
    "file of inputs that is empty": (
      f"--model_dir={folder}/model",
      *_infer(folder, "empty"),
    ),
    "inputs that are not UTF-8": (
      f"--model_dir={folder}/model",
      *_infer(folder, "latin"),
    ),
    "folder in which another trains": (f"--model_dir={folder}/held", *BASE),
  }


def try_run(arguments: tuple[str, ...]) -> dict:
  """A run as a user starts it.

  Args:
    arguments: flags.

  Returns:
    status, sentence, seconds (of the clock), cpu (seconds)
  """
  start = time.time()
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  done = subprocess.run(
    [sys.executable, "-m", "hypergrid_mtf.main", *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  return dict(
    status=done.returncode,
    sentence=done.stderr.strip(),
    seconds=time.time() - start,
    cpu=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
  )


def _cell(text: str, folder) -> str:
  text = text.replace(str(folder), "DIR").replace("|", "\\|")
  return re.sub(r"\s+", " ", text)


def row(name: str, arguments, found: dict, folder) -> str:
  """A line of the table."""
  given = " ".join(a for a in arguments if a not in EVAL)
  given = given[:_LONGEST] + "…" * (len(given) > _LONGEST)
  cells = (
    name,
    f"`{_cell(given, folder)}`",
    _cell(found["sentence"].removeprefix("error: "), folder),
    str(found["status"]),
    f"{found['seconds']:.1f} ({found['cpu']:.1f})",
  )
  return f"| {' | '.join(cells)} |"


HEAD = """# Wrong runs

What `python -m hypergrid_mtf.main` says to input that cannot work, imports
included. Made by `python -m tests.hypergrid_mtf.wrong_runs`; `DIR` is a folder
of the test.

| what is wrong | given | sentence | status | seconds (of CPU) |
| --- | --- | --- | --- | --- |
"""

FLAGS = flags.FLAGS


def main(argv) -> None:
  """Writes the table, a row as soon as it is known."""
  del argv
  folder = pathlib.Path(tempfile.mkdtemp(prefix="wrong_runs-"))
  try:
    make_files(folder)
    (folder / "held").mkdir()
    with (
      lock.hold(str(folder / "held"), "held"),
      open(FLAGS.output, "w", buffering=1) as out,
    ):
      out.write(HEAD)
      for name, arguments in cases(folder).items():
        found = try_run(arguments)
        out.write(row(name, arguments, found, folder) + "\n")
  finally:
    shutil.rmtree(folder)


if __name__ == "__main__":
  flags.DEFINE_string("output", None, "Where the table goes.", required=True)
  app.run(main)
