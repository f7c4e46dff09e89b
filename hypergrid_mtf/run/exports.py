"""What a run wrote: an export, how much it takes, or other results."""

import contextlib
import dataclasses
import functools
import inspect
from unittest import mock

import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf.run import request


@dataclasses.dataclass
class Export:
  """A SavedModel.

  Attributes:
    folder: that holds it; None as long as nothing was exported.
    size: the most strings that it takes at once, as its graph was built for
      batches of this size.
  """

  folder: str | None = None
  size: int | None = None


@contextlib.contextmanager
def watch():
  """Within this context, what t5 exports is noted.

  Yields:
    an Export, filled when there is one
  """
  export = Export()
  original = utils.export_model
  signature = inspect.signature(original)

  @functools.wraps(original)
  def export_model(*args, **kwargs):
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    folder = original(*args, **kwargs)
    export.folder = tf.compat.as_text(folder)
    export.size = bound.arguments["batch_size"]
    return folder

  with mock.patch.object(utils, "export_model", export_model):
    yield export


def where(asked: request.Request, export: Export) -> str:
  """Where a reader finds what a run made, and what must be known of it.

  Args:
    asked: the run.
    export: from `watch`.

  Returns:
    the end of a line, or ""
  """
  if export.folder:
    return (
      f", see {export.folder}, which takes at most {export.size} "
      f"{'string' if export.size == 1 else 'strings'} at once (the batch size)"
    )
  if tf.io.gfile.isdir(asked.results):
    return f", see {asked.results}"
  found = tf.io.gfile.glob(asked.results) if asked.results else []
  return f", see {', '.join(sorted(found))}" if found else ""
