"""Adapters: one bottleneck per task after attention and feed-forward.

    y' = y + act(y D_t) U_t

with D_t [d_model, b] and U_t [b, d_model] for the token's task t (Houlsby et
al., 2019). U starts at zero, so the initial function is vanilla T5's. All tasks
together form one wide layer, of which each token uses its task's part; so
packed sequences are exact and nothing is gathered.

HyperFormer++ (Mahabadi et al., ACL 2021) generates them from embeddings of the
task, the block and the position in the block, with one linear map each for D, U
and a layer norm after U; the blocks of a stack share the maps. Here the two
maps of the layer norm start at zero, so the initial function is vanilla T5's
too.
"""

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer_layers

from hypergrid_mtf import conditioning, errors
from hypergrid_mtf.peers import tasks

_PLACES = ("SelfAttention", "DenseReluDense")  # in a block


def _normal(fan_in: int):
  return tf.random_normal_initializer(stddev=fan_in**-0.5)


@gin.configurable(module="hypergrid_mtf.peers.adapter")
class Adapter:
  """Adds an adapter to a layer's output."""

  def __init__(
    self,
    bottleneck: int = 24,
    activation: str = "gelu",
    hypernetwork: bool = False,
    embedding_size: int = 64,
    hidden_size: int = 128,
  ):
    """Records the hyperparameters.

    Args:
      bottleneck: b, per task.
      activation: name of a mesh_tensorflow function.
      hypernetwork: whether to generate the kernels, as in HyperFormer++.
      embedding_size: of tasks, blocks and places, and of the maps' input.
      hidden_size: between the embeddings and the maps' input.

    Raises:
      UserError: for an invalid size or an unknown activation.
    """
    for name, value in (
      ("bottleneck", bottleneck),
      ("embedding_size", embedding_size),
      ("hidden_size", hidden_size),
    ):
      tasks.check_positive(f"Adapter.{name}", value)
    if not callable(getattr(mtf, str(activation), None)):
      raise errors.UserError(
        f"Adapter.activation = {activation!r} is unknown: give the name of a "
        "mesh_tensorflow function, such as 'gelu'."
      )
    self.tasks = tasks.num_tasks()
    self.bottleneck = mtf.Dimension("bottleneck", bottleneck)
    self.activation = getattr(mtf, activation)
    self.hypernetwork = hypernetwork
    self.embedding_size = embedding_size
    self.hidden_size = hidden_size

  def __call__(self, context, y: mtf.Tensor, place: str) -> mtf.Tensor:
    """y + act(y D_t) U_t, [<batch>, (length,) d_model]."""
    task = conditioning.task_of_tokens(context, self.tasks)
    model_dim = context.model.model_dim
    if self.hypernetwork:
      down, up, scale, bias = self._generate(context, model_dim, place)
    else:
      with tf.variable_scope("adapter"):
        dims = [self.tasks, model_dim, self.bottleneck]
        down = tasks.get_variable(
          context, "down", dims, _normal(model_dim.size)
        )
        dims = [self.tasks, self.bottleneck, model_dim]
        up = tasks.get_variable(context, "up", dims, tf.zeros_initializer())
    h = mtf.einsum([y, down], reduced_dims=[model_dim])  # [.., tasks, b]
    h = self.activation(h) * task
    z = mtf.einsum([h, up], reduced_dims=[self.tasks, self.bottleneck])
    if self.hypernetwork:
      mean = mtf.reduce_mean(z, reduced_dim=model_dim)
      z -= mean
      variance = mtf.reduce_mean(mtf.square(z), reduced_dim=model_dim)
      z *= mtf.rsqrt(variance + 1e-6)
      z *= mtf.einsum([task, scale], reduced_dims=[self.tasks])
      z += mtf.einsum([task, bias], reduced_dims=[self.tasks])
    return y + mtf.transpose(z, y.shape)

  def _generate(self, context, model_dim, place: str) -> list[mtf.Tensor]:
    """D, U and the layer norm's scale and bias, each [tasks, ...]."""
    number, blocks = tasks.block(context)
    e = mtf.Dimension("embedding", self.embedding_size)
    joined = mtf.Dimension("embedding", 3 * e.size)
    hidden = mtf.Dimension("adapter_hidden", self.hidden_size)
    places = mtf.Dimension("places", len(_PLACES))
    with tasks.shared_scope("adapter"):
      task, block, at = (
        tasks.get_variable(context, name, [dim, e], _normal(1))
        for name, dim in (
          ("task", self.tasks),
          ("block", blocks),
          ("place", places),
        )
      )
      block = mtf.gather(block, number, blocks)
      at = mtf.gather(at, _PLACES.index(place), places)
      parts = [task, *(mtf.broadcast(t, task.shape) for t in (block, at))]
      z = mtf.concat(parts, "embedding")
      for name, ins, outs in (
        ("hidden", joined, hidden),
        ("output", hidden, e),
      ):
        kernel = tasks.get_variable(
          context, name, [ins, outs], _normal(ins.size)
        )
        z = mtf.einsum([z, kernel], reduced_dims=[ins])
        z = mtf.relu(z) if name == "hidden" else z
      z = mtf.layers.layer_norm(z, e, name="layer_norm")  # [tasks, e]
      zeros = tf.zeros_initializer()
      return [
        mtf.einsum(
          [z, tasks.get_variable(context, name, [e, *dims], start)],
          reduced_dims=[e],
        )
        for name, dims, start in (
          (
            "down",
            [model_dim, self.bottleneck],
            _normal(e.size * model_dim.size),
          ),
          (
            "up",
            [self.bottleneck, model_dim],
            _normal(e.size * self.bottleneck.size),
          ),
          ("scale", [model_dim], zeros),
          ("bias", [model_dim], zeros),
        )
      ]


class _Adapted(tasks.TaskLayer):
  """One of T5's layers, followed by an adapter."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.adapter = Adapter()
    self.adapter_activation = self.adapter.activation  # checkpoints record it

  def call(self, context, x: mtf.Tensor, losses=None) -> mtf.Tensor:
    """The shapes are those of T5's layer."""
    y = super().call(context, x, losses)
    return self.adapter(context, y, type(self).__name__)


@gin.configurable("AdapterSelfAttention", module="hypergrid_mtf.peers.adapter")
class SelfAttention(_Adapted, transformer_layers.SelfAttention):
  """T5's self-attention, followed by an adapter."""


@gin.configurable("AdapterDenseReluDense", module="hypergrid_mtf.peers.adapter")
class DenseReluDense(_Adapted, transformer_layers.DenseReluDense):
  """T5's feed-forward layer, followed by an adapter."""
