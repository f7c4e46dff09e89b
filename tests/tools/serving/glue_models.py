"""Small models of real GLUE and of the embedded tasks, trained for some steps.

With HYPERGRID_PARITY_DIR they are kept in a folder, and taken from there the
next time.
"""

import pathlib

import seqio

from t5_tasks import mixtures, vocabularies
from tests import command
from tests.tools.serving import model_dirs
from tools.data import local_mixture

MIXTURE = "parity"
GLUE = ("cola", "mrpc", "rte", "sst2", "stsb")
TASKS = [f"glue_{task}_v002_task_token" for task in GLUE]
_VANILLA = ("--gin_file=hypergrid/vanilla.gin",)
_L2 = ("--gin_file=hypergrid/L2.gin", f"--gin_param={model_dirs.TASK_TOKEN}")
_MODELS = {
  "glue_l2": _L2,
  "glue_t5_1_0": _VANILLA,
  "glue_t5_1_1": (
    *_VANILLA,
    *(f"--gin_param={binding}" for binding in model_dirs.T5_1_1),
  ),
  "embedded_vanilla": (
    "--gin_file=models/nano.gin",
    *_VANILLA,
    "--gin_file=experiments/embedded.gin",
    "--gin_param=run.train_steps = 200",
  ),
  "embedded_l2": (
    "--gin_file=models/nano.gin",
    *_L2,
    "--gin_file=experiments/embedded.gin",
    "--gin_param=MIXTURE_NAME = 'embedded_v1_task_token'",
    "--gin_param=run.train_steps = 600",
  ),
}


class Models:
  """Trained models by name, and the data and vocabulary of GLUE.

  Attributes:
    root: the folder of all.
    data: as TFDS has it.
    vocabulary: the path of its SentencePiece model.
  """

  def __init__(self, root: pathlib.Path, glue: pathlib.Path):
    self.root, self.data = root, root / "data"
    self.vocabulary = f"{root}/vocabulary/{vocabularies.MODEL_FILE}"
    mixture = f"--gin_file={self.data / local_mixture.FILE_NAME}"
    tfds = f"--t5_tfds_data_dir={self.data}"
    if not self.data.exists():
      _call("prepare_data", f"--glue_dir={glue}", f"--tfds_dir={self.data}")
    if not (root / "vocabulary").exists():
      flags = "--mixture=local_v1", f"--output={root}/vocabulary"
      _call("train_vocabulary", *flags, mixture, tfds)
    self._flags = (
      "--gin_file=models/tiny.gin",
      "--gin_file=experiments/local_glue.gin",
      tfds,
      f"--vocabulary={self.vocabulary}",
      f"--gin_param=MIXTURE_NAME = {MIXTURE!r}",
      f"--gin_param=t5_tasks.mixtures.define_mixture.name = {MIXTURE!r}",
      f"--gin_param=t5_tasks.mixtures.define_mixture.tasks = {TASKS}",
      "--gin_param=run.batch_size = ('sequences_per_batch', 8)",
      "--gin_param=run.train_steps = 60",
    )

  def register(self) -> None:
    """Makes the tasks of this process those of the data."""
    seqio.set_tfds_data_dir_override(str(self.data))
    vocabularies.use_vocabulary(self.vocabulary)
    if MIXTURE not in mixtures.known_names():
      mixtures.define_mixture(MIXTURE, TASKS)

  def folder(self, name: str) -> str:
    """The model_dir of a model, which is trained if it is not there."""
    path = self.root / name
    if name in _MODELS and not path.exists():
      flags = self._flags if name.startswith("glue") else ()
      command.run([f"--model_dir={path}", "--seed=0", *flags, *_MODELS[name]])
    return str(path)


def _call(name: str, *arguments) -> None:
  done = command.tool(name, *arguments)
  assert done.returncode == 0, done.stderr
