"""T5's feed-forward layer in parts, for layers that replace one of them."""

import functools
from collections.abc import Callable

import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import transformer_layers

from hypergrid_mtf import errors


class FeedForward(transformer_layers.DenseReluDense):
  """h = act(x wi), y = h wo, with the variables of DenseReluDense."""

  def dims(self, name: str, model_dim: mtf.Dimension):
    """Fan-in and fan-out of "wi" (and each of its factors) or of "wo"."""
    dims = model_dim, mtf.Dimension("d_ff", self.hidden_size)
    return dims[::-1] if name == "wo" else dims

  def activations(self) -> dict[str, Callable | None]:
    """The activation of each factor of h, by the name of its wi."""
    given = self.activation
    given = list(given) if isinstance(given, list | tuple) else [given]
    for i, name in enumerate(given):
      if isinstance(name, str):
        given[i] = None if name == "linear" else getattr(mtf, name, None)
        if given[i] is None and name != "linear":
          raise errors.UserError(
            f"DenseReluDense.activation = {name!r} is unknown: give the name "
            "of a mesh_tensorflow function, such as 'relu', or 'linear'."
          )
    names = [f"wi_{i}" for i in range(len(given))] if given[1:] else ["wi"]
    return dict(zip(names, given, strict=True))

  def hidden(
    self, context, x, multiply=None, activations=None, length_dim=None
  ) -> mtf.Tensor:
    """h, [..., d_ff], with dropout in training.

    Args:
      context: a transformer.Context.
      x: [..., d_model].
      multiply: as in `dense`.
      activations: instead of `activations()`.
      length_dim: instead of the context's.
    """
    factors = []
    for name, activation in (activations or self.activations()).items():
      h = self.dense(context, x, name, multiply)
      factors.append(h if activation is None else activation(h))
    h = functools.reduce(mtf.multiply, factors)
    if context.train and self.dropout_rate != 0.0:
      h = mtf.dropout(
        h,
        context.train,
        keep_prob=1.0 - self.dropout_rate,
        noise_shape=h.shape - (length_dim or context.length_dim),
      )
    return h

  def dense(self, context, x, name: str, multiply=None) -> mtf.Tensor:
    """`mtf.layers.dense`, optionally with another product.

    Args:
      context: a transformer.Context.
      x: [..., fan_in].
      name: of the kernel.
      multiply: None, or a function of x and the kernel, [..., fan_out].
    """
    fan_in, fan_out = self.dims(name, context.model.model_dim)
    ensemble_dims = context.model.ensemble_dims
    if multiply is None:
      return mtf.layers.dense(
        x,
        [fan_out],
        [fan_in],
        ensemble_dims,
        self.use_bias,
        variable_dtype=context.variable_dtype,
        name=name,
      )
    kernel = mtf.layers.get_dense_kernel_weights(
      x,
      [fan_out],
      [fan_in],
      ensemble_dims,
      None,
      name=name,
      variable_dtype=context.variable_dtype,
    )
    y = multiply(x, kernel)
    if mtf.layers.unit_scaling_convention():
      y *= fan_in.size**-0.5
    if self.use_bias:
      with tf.variable_scope(name):
        y += mtf.get_variable(
          x.mesh,
          "bias",
          mtf.Shape([*ensemble_dims, fan_out]),
          initializer=tf.zeros_initializer(),
          dtype=context.variable_dtype,
        )
    return y
