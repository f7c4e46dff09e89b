"""What an experiment file requires of the run that includes it.

A file says so by gin's own mark, `run.init_checkpoint = %gin.REQUIRED`, and
whatever is given after it fulfils it. gin knows neither the file nor the mode:
here the sentence names the file, and a checkpoint to start from is required of
a training that begins, and of nothing else.
"""

import re

import gin

from hypergrid_mtf import checkpoints, errors
from hypergrid_mtf.run import gin_statements, request

_START = "run.init_checkpoint"
_MARK = r"%gin\.REQUIRED"


def check(asked: request.Request, flags) -> None:
  """Checks that what the gin files require was given.

  Call it before gin is finalized: a checkpoint to start from that this run has
  no use for is bound to None.

  Args:
    asked: the run.
    flags: absl's FLAGS, parsed.

  Raises:
    UserError: naming the file, what it requires, and what to give.
  """
  names = re.findall(rf"^([\w./]+) = {_MARK}$", gin.config_str(), re.M)
  if _START in names and not _begins(asked, flags.model_dir):
    gin.bind_parameter(_START, None)
    names.remove(_START)
  if not names:
    return
  name = names[0]
  written = gin_statements.origin(name)
  where = written.where if written else "this configuration"
  if name != _START:
    raise errors.UserError(
      f'{where}: {name} is required; give --gin_param="{name} = …".'
    )
  raise errors.UserError(
    f"{where}: {name} is required, the pretrained T5 that training starts "
    f"from; give --gin_param=\"{name} = '…/model.ckpt-STEP'\" with a "
    "run.train_steps above that STEP, or None in place of the path to train "
    "from random weights."
  )


def _begins(asked: request.Request, model_dir: str) -> bool:
  """Whether this is a training that loads no checkpoint yet."""
  return asked.trains and checkpoints.latest_checkpoint(model_dir) is None
