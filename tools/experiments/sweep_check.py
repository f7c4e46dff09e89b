"""Makes the checks of `hypergrid_mtf.main` for the jobs of a sweep.

In a separate process, because it changes flags, gin and SeqIO's registry:

  python -m tools.experiments.sweep_check FOLDER < jobs.json

reads [[flags of a training or null, flags of its evaluation], …] and prints a
line of JSON for each: the evaluated `split`, or finally an `error`.
"""

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Sequence

import gin
import seqio
from absl import flags
from absl.testing import flagsaver

from hypergrid_mtf import errors, main
from hypergrid_mtf.run import config, t5_main


def check(
  train: Sequence[str] | None, evaluate: Sequence[str], folder: str
) -> str:
  """Checks a job and returns the split that it evaluates.

  Args:
    train: flags of its training; None if that is complete.
    evaluate: flags of its evaluation.
    folder: for a temporary model_dir, so that nothing is written to the job's.

  Raises:
    UserError: if the training would be refused.
  """
  for given, only_read in ((train, False), (evaluate, True)):
    if given is None:
      continue
    gin.clear_config()
    seqio.set_tfds_data_dir_override(None)
    with (
      tempfile.TemporaryDirectory(dir=folder) as model_dir,
      flagsaver.flagsaver(),
      contextlib.redirect_stdout(io.StringIO()),
    ):
      try:
        flags.FLAGS(["main", *given, f"--model_dir={model_dir}"])
      except flags.Error as e:
        raise errors.UserError(errors.sentence(e)) from None
      if only_read:
        t5_main.parse(flags.FLAGS)
      else:
        main.main(["main"], only_check=True)
  return config.value("run.dataset_split", "train")


if __name__ == "__main__":
  for of_train, of_evaluation in json.load(sys.stdin):
    try:
      found = check(of_train, of_evaluation, sys.argv[1])
      print(json.dumps(dict(split=found)), flush=True)
    except errors.UserError as e:
      print(json.dumps(dict(error=errors.sentence(e))), flush=True)
      break
