"""HyperPrompt: task prompts before the keys and values of self-attention.

He et al., ICML 2022 (arXiv 2203.00759). Each stack has one prompt P_t [n,
d_model] per task t, from which each layer computes n more keys and values:

    k = [relu(LN(P_t) A_k) B_k; x wk],  v = [relu(LN(P_t) A_v) B_v; x wv]

Variant "sep" has A and B per task and layer, "share" has them per layer, and in
"global" one hypernetwork generates them for all tasks and layers from
embeddings of both.

The authors' functions are in mesh_tensorflow.transformer.attention
(`make_params_hyperprompt`, `make_params_mtlprompt`), but nothing passes them a
task, and their caller is wrong for padding, packing, beams and outer batches
(docs/dev/upstream.md). This layer uses the same equations and variable names.
"""

import copy

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import attention, transformer_layers

from hypergrid_mtf import conditioning, errors
from hypergrid_mtf.peers import tasks

VARIANTS = ("global", "share", "sep")


@gin.configurable("HyperPrompt", module="hypergrid_mtf.peers.hyperprompt")
class SelfAttention(tasks.TaskLayer, transformer_layers.SelfAttention):
  """T5's self-attention, also to prompts of the example's task."""

  def __init__(
    self,
    variant: str = "global",
    prompt_length: int = 6,
    bottleneck: int = 24,
    embedding_size: int = 64,
    **kwargs,
  ):
    """Records the hyperparameters.

    Args:
      variant: one of VARIANTS.
      prompt_length: positions per prompt, in both stacks.
      bottleneck: between a prompt and its keys and values.
      embedding_size: of tasks and layers; only for "global".
      **kwargs: of T5's self-attention.

    Raises:
      UserError: for an unknown variant or an invalid size.
    """
    if variant not in VARIANTS:
      raise errors.UserError(
        f"HyperPrompt.variant = {variant!r} is unknown: choose one of "
        f"{', '.join(map(repr, VARIANTS))}."
      )
    for name, value in (
      ("prompt_length", prompt_length),
      ("bottleneck", bottleneck),
      ("embedding_size", embedding_size),
    ):
      tasks.check_positive(f"HyperPrompt.{name}", value)
    super().__init__(**kwargs)
    self.variant = variant
    self.prompt_length = prompt_length
    self.bottleneck = mtf.Dimension("prefix_hidden", bottleneck)
    self.embedding_size = embedding_size

  def check(self, model_dim: mtf.Dimension) -> None:
    """Raises UserError if the prompts do not fit the attention."""
    del model_dim
    for name, value, fits in (
      ("num_memory_heads", self.num_memory_heads, 0),
      ("shared_kv", self.shared_kv, False),
    ):
      if value != fits:
        raise errors.UserError(
          f"HyperPrompt has keys and values for every head, but SelfAttention."
          f"{name} = {value!r} does not: leave it out."
        )
    if self.num_heads == 1:
      raise errors.UserError(
        "HyperPrompt needs SelfAttention.num_heads of 2 or more: Mesh "
        "TensorFlow omits the dimension of a single head."
      )

  def call(self, context, x: mtf.Tensor, losses=None) -> mtf.Tensor:
    """T5's self-attention, with prompts in front of keys and values."""
    del losses
    params = self.make_params(context)
    q = params.compute_q(x)
    length = self.memory_length(context)
    memory = x
    if context.mode != "incremental":
      memory = mtf.replace_dimensions(x, context.length_dim, length)
    k, v = params.compute_k(memory), params.compute_v(memory)
    if context.mode == "incremental":
      here = mtf.one_hot(
        context.position, length, dtype=context.activation_dtype
      )
      old_k, old_v = context.get_states(2)
      k = old_k * (1.0 - here) + k * here
      v = old_v * (1.0 - here) + v * here
    if context.mode in ("incremental", "first_part"):
      context.record_new_states([k, v])
    prompt_k, prompt_v, task = self._prompts(context)
    k, v = (
      mtf.concat([_like(prompt, tensor), tensor], length.name)
      for prompt, tensor in ((prompt_k, k), (prompt_v, v))
    )
    o = self.attention_fn(
      q,
      k,
      v,
      context=context,
      memory_length_dim=k.shape.get_dim_by_name(length.name),
      key_dim=self.kv_dim,
      value_dim=self.kv_dim,
      bias=self._bias(context, length, task, x, params.query_heads_dims, q),
      z_loss_coeff=self.z_loss_coeff,
      **self.attention_kwargs_from_context(context),
    )
    return params.compute_output(o, output_shape=x.shape)

  def _prompts(self, context) -> tuple:
    """Keys and values of the prompts that a sequence sees, and their tasks.

    Returns:
      keys and values [<batch>, memory_length, heads, d_kv] of the sequence's
      task, and None; for packed sequences, those of all tasks [memory_length,
      heads, d_kv] and each token's task [<batch>, length, tasks]. Decoding
      computes them once.
    """
    if context.mode == "incremental":
      return context.get_constant_state()
    keys_and_values = self._prompts_of_tasks(context)
    task = conditioning.task_of_tokens(context, self.tasks, keep=False)
    if context.length_dim in task.shape.dims:
      length = mtf.Dimension(
        "memory_length", self.tasks.size * self.prompt_length
      )
      found = [
        mtf.replace_dimensions(t, t.shape.dims[:2], length)
        for t in keys_and_values
      ]
    else:
      found = [
        mtf.einsum([task, t], reduced_dims=[self.tasks])
        for t in keys_and_values
      ]
      task = None
    if context.mode == "first_part":
      context.record_constant_state((*found, task))
    return (*found, task)

  def _prompts_of_tasks(self, context) -> list[mtf.Tensor]:
    """Keys and values, each [tasks, memory_length, heads, d_kv]."""
    model_dim = context.model.model_dim
    heads = mtf.Dimension("heads", self.num_heads)
    number, blocks = tasks.block(context)
    with tasks.shared_scope("hyperprompt"):
      length = mtf.Dimension("memory_length", self.prompt_length)
      prompts = _variable(context, "prompts", self.tasks, length, model_dim)
    with tf.variable_scope("hyperprompt"):
      prompts = mtf.layers.layer_norm(
        prompts, model_dim, name="prompts_layernorm"
      )
      prompts = self._dropout(context, prompts)
      if self.variant == "global":
        task, leading = self._layer_aware_tasks(context, number, blocks)
      else:
        task, leading = None, [self.tasks] if self.variant == "sep" else []

    def kernel(name, *dims):
      if task is None:
        with tf.variable_scope("hyperprompt/prompt"):
          return _variable(context, f"w_{name}", *leading, *dims)
      with tasks.shared_scope("hyperprompt"):
        made_by = _variable(context, f"hypernet_w_{name}", *leading, *dims)
      return mtf.einsum([task, made_by], reduced_dims=leading)

    found = []
    for kind in "kv":
      up = kernel(f"{kind}_up", model_dim, self.bottleneck)
      down = kernel(f"{kind}_down", self.bottleneck, heads, self.kv_dim)
      h = mtf.einsum([prompts, up], reduced_dims=[model_dim])
      h = self._dropout(context, mtf.relu(h))
      found.append(
        mtf.einsum(
          [h, down], output_shape=[self.tasks, length, heads, self.kv_dim]
        )
      )
    return found

  def _layer_aware_tasks(self, context, number: int, blocks) -> tuple:
    """Embeddings of the tasks for this layer [tasks, t], and [t]."""
    size = self.embedding_size
    e, joined = (mtf.Dimension("task_embedding", n * size) for n in (1, 2))
    hidden = mtf.Dimension("task_hidden", size)
    final = mtf.Dimension("task_final", size)
    with tasks.shared_scope("hyperprompt"):
      task = _variable(context, "task_raw_embedding", self.tasks, e)
      layer = _variable(context, "layer_embedding", blocks, e)
      one = _variable(context, "task_projector_layer_one", joined, hidden)
      two = _variable(context, "task_projector_layer_two", hidden, final)
    layer = mtf.broadcast(mtf.gather(layer, number, blocks), task.shape)
    task = mtf.concat([task, layer], e.name)
    h = mtf.relu(mtf.einsum([task, one], reduced_dims=[joined]))
    task = mtf.einsum([self._dropout(context, h), two], reduced_dims=[hidden])
    task = mtf.layers.layer_norm(
      task, final, name="prompt_task_embed_layernorm"
    )
    return task, [final]

  def _dropout(self, context, x: mtf.Tensor) -> mtf.Tensor:
    if not context.train or self.dropout_rate == 0.0:
      return x
    return mtf.dropout(x, context.train, keep_prob=1.0 - self.dropout_rate)

  def _bias(self, context, length, task, x, heads_dims, q) -> mtf.Tensor:
    """T5's bias, with prompts left of position 0, and the masks.

    Args:
      context: a transformer.Context.
      length: of the keys, without prompts.
      task: of each token, if there are prompts of all tasks.
      x: as in `compute_bias`.
      heads_dims: as in `compute_bias`.
      q: as in `compute_bias`.

    Returns:
      [..., memory_length] of prompts and tokens
    """
    if context.mode == "incremental":
      position = mtf.range(context.mesh, length, tf.int32)
    else:
      position = self.rename_length_to_memory_length(context.position, context)
    prompt = mtf.Dimension("prompt", self.prompt_length)
    left = mtf.range(context.mesh, prompt, tf.int32) - prompt.size
    count = prompt.size * (1 if task is None else self.tasks.size)
    memory = mtf.Dimension(length.name, count)
    ids = context.subsequence_id
    if not isinstance(ids, mtf.Tensor):
      ids = context.sequence_id
    same = None  # whether two tokens are in the same example
    if isinstance(ids, mtf.Tensor) and context.length_dim in ids.shape.dims:
      same = mtf.equal(ids, self.rename_length_to_memory_length(ids, context))

    def relative(memory_position, position):
      """Upstream's bias without its masks, which do not cover prompts."""
      bare = copy.copy(context)
      bare.position = position
      bare.sequence_id = bare.subsequence_id = bare.read_priority = None
      return self.compute_bias(bare, memory_position, x, heads_dims, q)

    def of_all_tasks(t):
      """[..., memory_length] from values per prompt position or per task."""
      each = [self.tasks, prompt]
      t = mtf.broadcast(t, t.shape - each + each)
      return mtf.replace_dimensions(t, each, memory)

    if task is None:
      left = mtf.rename_dimension(left, prompt.name, memory.name)
      position = mtf.concat([_like(left, position), position], memory.name)
      biases = [relative(position, context.position)]
    else:
      # Positions count from the start of the row; prompts are left of examples.
      before = mtf.logical_and(same, mtf.less(position, context.position))
      before = mtf.reduce_sum(mtf.to_int32(before), reduced_dim=length)
      biases = [relative(position, context.position), relative(left, before)]
      if biases[0] is not None:
        biases[0] = mtf.pad(biases[0], [count, 0], memory.name)
        of_prompts = of_all_tasks(biases[1])
        biases[1] = mtf.pad(of_prompts, [0, length.size], memory.name)
    biases = [bias for bias in biases if bias is not None]

    def add(visible, prompts=None):
      """Adds a mask of tokens and prompts; None makes all prompts visible."""
      visible = mtf.to_int32(visible)
      shape = visible.shape.resize_dimension(memory.name, count)
      if prompts is None:
        prompts = mtf.ones(context.mesh, shape, tf.int32)
      visible = mtf.concat(
        [mtf.broadcast(prompts, shape), visible], memory.name
      )
      biases.append(
        attention.visibility_mask_to_attention_bias(
          mtf.equal(visible, 1), context.activation_dtype
        )
      )

    if context.read_priority is not None:
      write = self.rename_length_to_memory_length(
        context.write_priority, context
      )
      add(mtf.greater_equal(context.read_priority, write))
    if same is not None:
      add(same, None if task is None else of_all_tasks(mtf.to_int32(task)))
    return mtf.add_n(biases) if biases else None


def _variable(context, name: str, *dims) -> mtf.Tensor:
  start = tf.random_normal_initializer(stddev=0.05)
  return tasks.get_variable(context, name, dims, start)


def _like(prompt: mtf.Tensor, tensor: mtf.Tensor) -> mtf.Tensor:
  """A prompt with a tensor's dimensions, except its own memory_length."""
  (length,) = (d for d in prompt.shape.dims if d.name == "memory_length")
  return mtf.broadcast(
    prompt, tensor.shape.resize_dimension("memory_length", length.size)
  )
