"""What all peers need: the tasks that a layer distinguishes, its variables."""

import re

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer

from hypergrid_mtf import errors

NUM_TASKS = 24  # the task tokens of t5_tasks.task_tokens


@gin.configurable(module="hypergrid_mtf.peers.tasks")
def num_tasks(count: int = NUM_TASKS) -> mtf.Dimension:
  """The dimension of tasks, one for each task token from 0 to count - 1.

  Raises:
    UserError: if it is not a positive integer.
  """
  check_positive("num_tasks.count", count)
  return mtf.Dimension("tasks", count)


class TaskLayer(transformer.TransformerLayer):
  """A layer that reads its tokens' tasks; comes before the T5 layer as a base.

  Attributes:
    tasks: dimension of the tasks.
  """

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.tasks = num_tasks()

  def check(self, model_dim: mtf.Dimension) -> None:
    """Raises UserError if the layer cannot be in a model of this width."""


def get_variable(context, name: str, dims, initializer) -> mtf.Tensor:
  """A layer's variable, in the types of the context."""
  return mtf.get_variable(
    context.mesh,
    name,
    mtf.Shape(dims),
    initializer=initializer,
    dtype=context.variable_dtype,
  )


def check_positive(name: str, value) -> None:
  """Raises UserError if a binding is not a positive integer."""
  if not isinstance(value, int) or isinstance(value, bool) or value < 1:
    raise errors.UserError(f"{name} = {value!r} must be a positive integer.")


def shared_scope(name: str):
  """A variable scope of the stack, `<stack>/<name>`, for its layers.

  All layers that name a variable in it share that variable.
  """
  here = tf.get_variable_scope()
  stack, _, _ = here.name.partition("/block_")
  scope = tf.VariableScope(
    reuse=tf.AUTO_REUSE,
    name=f"{stack}/{name}",
    custom_getter=here.custom_getter,  # of tools that bring the values
    use_resource=here.use_resource,
  )
  return tf.variable_scope(scope, auxiliary_name_scope=False)


def block(context) -> tuple[int, mtf.Dimension]:
  """The number of the layer's block, and the number of blocks."""
  here = re.search(r"/block_(\d+)", tf.get_variable_scope().name)
  names = [layer.name for layer in context.model.layer_stack.layers]
  if not here or not all(names):
    raise errors.UserError(
      "transformer.make_layer_stack.block_scope = False gives the layers of a "
      "stack no numbers, which hypernetworks need: leave it out."
    )
  blocks = {name.split("/")[0] for name in names}
  return int(here[1]), mtf.Dimension("blocks", len(blocks))
