r"""Makes the table of wrong runs: their sentences, and how soon they come.

  python -m tests.hypergrid_mtf.wrong_runs --output=docs/dev/wrong_runs.md

Each line is a process of its own, imports included, one at a time. A busy
machine makes them slower, so seconds of CPU stand beside those of the clock.
"""

import os
import pathlib
import re
import resource
import shutil
import tempfile
import time

from absl import app, flags

from hypergrid_mtf.run import lock
from tests import command, testing

_NAMES = dict(
  MODEL="models/tiny.gin | hypergrid/L2.gin",
  BASE="models/tiny.gin | hypergrid/L2.gin | experiments/embedded.gin",
  EVAL="experiments/local_eval.gin",
  INFER="infer.gin | infer_checkpoint_step = -1 | output_filename = 'DIR/out'",
)
# What is wrong, and how such a run is called. --model_dir and BASE come first,
# unless there is another or MODEL.
_CASES = """
empty --model_dir | --model_dir=
model_dir below a file | --model_dir=DIR/empty/run
model_dir is a checkpoint | --model_dir=DIR/model/model.ckpt-40
unknown flag | --model_dri=x
not a flag | train
seed is not a number | --seed=x
no gin file of this name | MODEL | --gin_file=models/tinny.gin
gin file is a folder | --gin_file=DIR
gin file with a syntax error | --gin_file=DIR/wrong.gin
binding with a syntax error | --gin_param=run.train_steps 3
unknown parameter | run.train_step = 3
unknown configurable | runn.train_steps = 3
undefined macro | run.train_steps = %no
unused macro | d_mdoel = 64
missing module | --module_import=no_such_module
unknown mode | run.mode = 'trian'
a flag of the model API | --use_model_api
unreachable vocabulary of t5 | MODEL | --gin_file=dataset.gin
unknown mixture | MIXTURE_NAME = 'embeded_v1'
missing data | MIXTURE_NAME = 'glue_rte_v002'
  | --vocabulary=bytes | --t5_tfds_data_dir=DIR
missing data folder | MIXTURE_NAME = 'glue_rte_v002'
  | --vocabulary=bytes | --t5_tfds_data_dir=DIR/none
missing vocabulary | --vocabulary=DIR/none.model
file that is not a vocabulary | --vocabulary=DIR/vocabulary
batch of 0 sequences | run.batch_size = 0
batch of fewer tokens than a sequence
  | run.batch_size = ('tokens_per_batch', 100)
batch that the mesh does not divide | run.mesh_shape = 'model:1,batch:3'
mesh with a syntax error | run.mesh_shape = 'batch=2'
missing GPU | run.mesh_devices = ['gpu:0']
grid rows that do not divide d_ff | HyperGrid.grid_rows = 7
grid columns that do not divide d_model | HyperGrid.grid_cols = 7
unknown variant | HyperGrid.variant = 'LL'
unknown gate | HyperGrid.gate = 'relu'
length of 0 tokens | run.sequence_length = {'inputs': 0, 'targets': 8}
feature without a length | run.sequence_length = {'inputs': 8}
dropout of 2 | dropout_rate = 2.0
text as the number of steps | run.train_steps = 'many'
checkpoint every 0 steps | run.save_checkpoints_steps = 0
missing initial checkpoint that an experiment requires
  | MODEL | --gin_file=experiments/glue.gin
missing initial checkpoint
  | run.init_checkpoint = 'DIR/model/model.ckpt-30'
initial checkpoint of another model
  | run.init_checkpoint = 'DIR/model/model.ckpt-40'
damaged initial checkpoint
  | run.init_checkpoint = 'DIR/cut/model.ckpt-40'
resuming from another model | --model_dir=DIR/model
resuming with damaged checkpoints only | --model_dir=DIR/all_damaged
evaluation without a checkpoint | EVAL
evaluation of a damaged checkpoint | EVAL | --model_dir=DIR/cut
evaluation without the file `checkpoint` | EVAL | --model_dir=DIR/lost
evaluation of a missing step
  | EVAL | --model_dir=DIR/model | eval_checkpoint_step = 30
evaluation of a missing split
  | EVAL | --model_dir=DIR/model | run.dataset_split = 'dev'
missing inputs | INFER | input_filename = 'DIR/none'
empty file of inputs | INFER | input_filename = 'DIR/empty'
inputs that are not UTF-8 | INFER | input_filename = 'DIR/latin'
--evaluate without a training | EVAL | --evaluate
--patience without --evaluate | --patience=3
folder in which another process trains | --model_dir=DIR/held
"""
# What is said before `main` is called, and what names a process.
BEFORE_MAIN = (
  "missing data folder",
  "missing vocabulary",
  "unknown flag",
  "not a flag",
  "seed is not a number",
  "folder in which another process trains",
)
_LONGEST = 160  # characters of a flag in the table


def make_files(folder: pathlib.Path) -> None:
  """Makes the files that the wrong runs read.

  Args:
    folder: empty.
  """
  (folder / "wrong.gin").write_text("run.train_steps = = 3\n")
  (folder / "empty").write_text("")
  (folder / "latin").write_bytes(b"caf\xe9\n")
  (folder / "vocabulary").write_text("not a SentencePiece model\n")
  (folder / "broken.py").write_text("import nothing_of_the_kind\n")
  for name in ("model", "cut", "lost", "all_damaged"):
    variables = {"shared/embedding": (8, 4)}
    testing.write_checkpoint(folder / name, variables, steps=(20, 40))
  data = "model.ckpt-40.data-00000-of-00001"
  os.truncate(folder / "cut" / data, 9)
  (folder / "lost" / "checkpoint").unlink()
  for step in (20, 40):
    os.truncate(folder / "all_damaged" / data.replace("40", str(step)), 9)


def cases(folder: pathlib.Path) -> dict[str, tuple[str, ...]]:
  """{what is wrong: the flags of such a run}.

  Args:
    folder: with the files of `make_files`.
  """
  rows = []
  for row in re.sub(r"\n +\|", " |", _CASES.strip()).split("\n"):
    name, words = row.split(" | ", 1)
    first = "" if " MODEL" in row else "BASE | "
    if "--model_dir=" not in row:
      where = "model" if "INFER" in row else "run"
      first = f"--model_dir=DIR/{where} | {first}"
    rows.append(f"{name} | {first}{words}")
  found = command.calls("\n".join(rows), **_NAMES)
  return {
    name: tuple(flag.replace("DIR", str(folder)) for flag in flags)
    for name, flags in found.items()
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
  done = command.python("-m", "hypergrid_mtf.main", *arguments)
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
  usual = command.flags(*_NAMES["BASE"].split(" | "), _NAMES["EVAL"])
  given = " ".join(a for a in arguments if a not in usual)
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
  """Writes the table, row by row."""
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
