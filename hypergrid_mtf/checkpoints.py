"""Names and shapes of a model's variables, and whether a checkpoint fits."""

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import utils

from hypergrid_mtf import errors


def variable_shapes(model) -> dict[str, tuple[int, ...]]:
  """The model's variables, without allocating any.

  Args:
    model: a transformer.Bitransformer or Unitransformer, as
      `mesh_tensorflow.transformer.utils.build_model` returns it.

  Returns:
    {variable name: shape}, in the order of creation; the optimizer's slots and
    the global step are not the model's and not here.
  """
  with tf.Graph().as_default():
    mesh = mtf.Mesh(mtf.Graph(), "shapes")
    shape = mtf.Shape([mtf.Dimension("batch", 1), mtf.Dimension("length", 2)])
    tokens = mtf.ones(mesh, shape, dtype=tf.int32)
    model.call_simple(
      inputs=tokens,
      targets=tokens,
      compute_loss=False,
      mode=tf.estimator.ModeKeys.EVAL,
      variable_dtype=utils.get_variable_dtype(),
    )
    return {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}


def _reader_shapes(path: str, origin: str) -> dict[str, tuple[int, ...]]:
  try:
    reader = tf.train.load_checkpoint(path)
  except (ValueError, tf.errors.OpError) as e:
    raise errors.UserError(
      f"the checkpoint {path} ({origin}) cannot be read: {errors.sentence(e)}"
    ) from None
  return {k: tuple(v) for k, v in reader.get_variable_to_shape_map().items()}


def check_fits(
  path: str,
  shapes: dict[str, tuple[int, ...]],
  origin: str,
  same_model: bool,
) -> None:
  """Raises UserError if a checkpoint was made by a model of another size.

  Args:
    path: the checkpoint's prefix.
    shapes: of the model, from `variable_shapes`.
    origin: where the path came from, for the message (a flag or gin binding).
    same_model: require the model's variables and no others (resuming,
      evaluating); False for a warm start, where HyperGrid's own may be new and
      what the model has no use for is left alone.
  """
  found = _reader_shapes(path, origin)
  if same_model:
    absent = [n for n in shapes if n not in found]
    # The optimizer's slots are named after their variable.
    extra = [
      n
      for n in found
      if n not in shapes and "_slot_" not in n and n != "global_step"
    ]
  else:
    absent = [n for n in shapes if n not in found and "/hypergrid/" not in n]
    extra = []
  reshaped = [n for n in shapes if found.get(n, shapes[n]) != shapes[n]]
  for names in (reshaped, absent, extra):
    if not names:
      continue
    name = names[0]
    there = list(found[name]) if name in found else "absent"
    here = list(shapes[name]) if name in shapes else "absent"
    raise errors.UserError(
      f"the checkpoint {path} ({origin}) was made by another model: {name} is "
      f"{there} there and {here} in this configuration ({len(names)} such "
      "variables); give the gin files that the checkpoint was trained with, "
      "or another folder."
    )
