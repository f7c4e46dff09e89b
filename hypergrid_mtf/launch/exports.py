"""What an export wrote, and how much the SavedModel takes."""

import contextlib
import dataclasses
import functools
import inspect
from unittest import mock

import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils


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
