"""(IA)³: one vector per task scales keys, values and the hidden layer.

    k = l_k * (x wk),  v = l_v * (x wv),  y = (l_ff * act(x wi)) wo

Liu et al., 2022 (arXiv 2205.05638), with one trained l of each kind per task.
The vectors start at one, so the initial function is vanilla T5's. `l_ff` is
HyperGrid's variant "row" with d_ff grid rows and the task's vector as the gate.
"""

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer_layers

from hypergrid_mtf import conditioning, errors, feed_forward
from hypergrid_mtf.peers import tasks


def _vectors(context, task: mtf.Tensor, name: str, dims) -> mtf.Tensor:
  """l of each token's task, [<batch>, (length,) *dims]."""
  tasks_dim = task.shape.dims[-1]
  with tf.variable_scope("ia3"):
    table = tasks.get_variable(
      context, name, [tasks_dim, *dims], tf.ones_initializer()
    )
  return mtf.einsum([task, table], reduced_dims=[tasks_dim])


class _ScaledKeysAndValues(tasks.TaskLayer):
  """Attention whose `make_params` scales keys and values.

  A subclass has `task(context)`, [<batch>, (memory_length,) tasks], or None
  where keys and values were computed before.
  """

  def check(self, model_dim: mtf.Dimension) -> None:
    """Raises UserError if keys and values share one projection."""
    del model_dim
    if self.shared_kv:
      raise errors.UserError(
        "(IA)³ scales keys and values separately, but SelfAttention.shared_kv "
        "= True makes them one: leave it out."
      )

  def make_params(self, context):
    params = super().make_params(context)
    task = self.task(context)
    if task is None:
      return params
    for name, dims in (("k", params.k_dims), ("v", params.v_dims)):
      compute = getattr(params, f"compute_{name}")
      vectors = _vectors(context, task, name, dims)
      setattr(
        params,
        f"compute_{name}",
        lambda x, compute=compute, vectors=vectors: compute(x) * vectors,
      )
    return params


@gin.configurable("IA3SelfAttention", module="hypergrid_mtf.peers.ia3")
class SelfAttention(_ScaledKeysAndValues, transformer_layers.SelfAttention):
  """T5's self-attention with scaled keys and values."""

  def task(self, context) -> mtf.Tensor:
    task = conditioning.task_of_tokens(context, self.tasks)
    if context.length_dim not in task.shape.dims:
      return task
    memory_length = self.memory_length(context)
    return mtf.replace_dimensions(task, context.length_dim, memory_length)


@gin.configurable("IA3EncDecAttention", module="hypergrid_mtf.peers.ia3")
class EncDecAttention(_ScaledKeysAndValues, transformer_layers.EncDecAttention):
  """T5's encoder-decoder attention with scaled keys and values."""

  def task(self, context) -> mtf.Tensor | None:
    if context.mode == "incremental":
      return None
    return conditioning.task_of_memory(context, self.tasks)


@gin.configurable("IA3DenseReluDense", module="hypergrid_mtf.peers.ia3")
class DenseReluDense(tasks.TaskLayer, feed_forward.FeedForward):
  """T5's feed-forward layer with a scaled hidden layer."""

  def check(self, model_dim: mtf.Dimension) -> None:
    """Raises UserError for an unknown activation."""
    del model_dim
    self.activations()

  def call(self, context, x: mtf.Tensor, losses=None) -> mtf.Tensor:
    """y = (l_ff * act(x wi)) wo; shapes as in HyperGrid."""
    del losses
    task = conditioning.task_of_tokens(context, self.tasks)
    h = self.hidden(context, x)  # [<batch>, (length,) d_ff]
    hidden_dim = self.dims("wo", context.model.model_dim)[0]
    h *= _vectors(context, task, "hidden", [hidden_dim])
    return self.dense(context, h, "wo")
