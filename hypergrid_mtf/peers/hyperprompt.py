"""HyperPrompt: prompts of each task before the keys and values of attention.

He et al., ICML 2022 (arXiv 2203.00759). The prompts come from the authors' own
functions in mesh_tensorflow.transformer.attention, `make_params_hyperprompt`
("global": a hypernetwork makes the projections of every layer) and
`make_params_mtlprompt` ("share": one projection a layer; "sep": one for each
task). This layer gives those functions what nothing else gives them, the task
and the shared variables, and puts right what docs/dev/upstream.md tells of
their caller: padding, beams, and decoding.
"""

import gin
import mesh_tensorflow as mtf
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import attention, transformer_layers

from hypergrid_mtf import conditioning, errors
from hypergrid_mtf.peers import tasks

VARIANTS = ("global", "share", "sep")


@gin.configurable("HyperPrompt", module="hypergrid_mtf.peers.hyperprompt")
class SelfAttention(transformer_layers.SelfAttention):
  """T5's self-attention with prompts of the example's task in its memory."""

  one_example_a_row = "HyperPrompt has the prompts of one task a row"

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
      prompt_length: positions of a prompt, in both stacks.
      bottleneck: between a prompt and its keys and values.
      embedding_size: of tasks and layers, "global" alone.
      **kwargs: of T5's self-attention.

    Raises:
      UserError: for an unknown variant, or a size that cannot be.
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
    self.tasks = tasks.num_tasks()
    super().__init__(
      use_hyperprompt=variant == "global",
      hyperprompt_mtlshare=variant == "share",
      hyperprompt_length_encoder=prompt_length,
      hyperprompt_length_decoder=prompt_length,
      hyperprompt_hidden_dim=bottleneck,
      hyperprompt_task_num=self.tasks.size,
      **kwargs,
    )
    self.prompt_length = prompt_length
    self.embedding_size = embedding_size

  def check(self, model_dim: mtf.Dimension) -> None:
    """Raises UserError for attention that the prompts do not fit."""
    del model_dim
    for name, value, fits in (
      ("num_memory_heads", self.num_memory_heads, 0),
      ("shared_kv", self.shared_kv, False),
    ):
      if value != fits:
        raise errors.UserError(
          f"HyperPrompt has keys and values for every head, and SelfAttention."
          f"{name} = {value!r} does not: leave it out."
        )
    if self.num_heads == 1:
      raise errors.UserError(
        "HyperPrompt needs SelfAttention.num_heads of 2 or more: Mesh "
        "TensorFlow leaves the dimension of one head out."
      )

  def call(self, context, x: mtf.Tensor, losses=None) -> mtf.Tensor:
    """As T5's self-attention, with prompts in front of what is attended to."""
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
    prompt_k, prompt_v = self._prompts(context, k)
    k = mtf.concat([prompt_k, k], length.name)
    v = mtf.concat([prompt_v, v], length.name)
    length = mtf.Dimension(length.name, length.size + self.prompt_length)
    position = mtf.range(context.mesh, length, tf.int32)
    stack = "decoder" if context.model.autoregressive else "encoder"
    o = self.attention_fn(
      q,
      k,
      v,
      context=context,
      memory_length_dim=length,
      key_dim=self.kv_dim,
      value_dim=self.kv_dim,
      bias=self.compute_bias(
        context, position, x, params.query_heads_dims, q, f"{stack}_prompts"
      ),
      z_loss_coeff=self.z_loss_coeff,
      **self.attention_kwargs_from_context(context),
    )
    return params.compute_output(o, output_shape=x.shape)

  def compute_bias(
    self, context, memory_position, x, heads_dims, q, use_prompt_kv=None
  ):
    """Upstream's, which takes padding of the inputs for tokens, with a mask."""
    ids = context.sequence_id
    context.sequence_id = None
    bias = super().compute_bias(
      context, memory_position, x, heads_dims, q, use_prompt_kv
    )
    context.sequence_id = ids
    if not isinstance(ids, mtf.Tensor) or context.length_dim not in ids.shape:
      return bias
    if not conditioning.is_known_unpacked(ids):
      raise errors.UserError(
        f"{self.one_example_a_row}: set mesh_train_dataset_fn.pack = False."
      )
    memory_ids = mtf.pad(
      self.rename_length_to_memory_length(ids, context),
      [self.prompt_length, 0],
      "memory_length",
    )
    is_prompt = mtf.less(memory_position, self.prompt_length)
    visible = mtf.logical_or(mtf.equal(ids, memory_ids), is_prompt)
    return bias + attention.visibility_mask_to_attention_bias(
      visible, context.activation_dtype
    )

  def _prompts(self, context, like: mtf.Tensor) -> tuple:
    """Keys and values of the prompts, in the dimensions of `like`.

    Decoding makes them once and keeps them.
    """
    if context.mode == "incremental":
      return context.get_constant_state()
    stack = tf.get_variable_scope().name.split("/")[0]
    if stack not in context.shared_params:
      context.shared_params[stack] = self._shared_variables(context)
    if "task-id" not in context.cache:
      context.cache["task-id"] = self._task_id(context)
    make = attention.make_params_mtlprompt
    scope = {}
    if self.use_hyperprompt:
      make, scope = attention.make_params_hyperprompt, {"scope": stack}
    with tf.variable_scope("hyperprompt"):
      prompts = make(
        self.tasks.size,
        self.num_heads,
        self.hyperprompt_hidden_dim,
        self.kv_dim,
        context,
        self.hyperprompt_mtlshare,
        self.dropout_rate,
        prompt_length=self.prompt_length,
        **scope,
      )
    shape = like.shape.resize_dimension("memory_length", self.prompt_length)
    prompts = tuple(mtf.broadcast(p, shape) for p in prompts)  # to the beams
    if context.mode == "first_part":
      context.record_constant_state(prompts)
    return prompts

  def _task_id(self, context) -> mtf.Tensor:
    """[<batch>, length=1]: k of the example's task token."""
    ids = context.inputs
    if context.model.autoregressive:
      ids = context.encoder_inputs
    first = mtf.slice(ids, 0, 1, ids.shape.dims[-1].name)
    return context.model.input_vocab_size_unpadded - 1 - first

  def _shared_variables(self, context) -> dict[str, mtf.Tensor]:
    """The variables that the authors' functions share between layers."""
    dim, found = mtf.Dimension, {}

    def add(name, *dims):
      found[name] = mtf.get_variable(
        context.mesh,
        name,
        mtf.Shape(dims),
        initializer=tf.random_normal_initializer(stddev=0.05),
        dtype=context.variable_dtype,
      )

    task_num = dim("task_num", self.tasks.size)
    model_dim, size = context.model.model_dim, self.embedding_size
    _, blocks = tasks.block(context)
    with tasks.shared_scope("hyperprompt"):
      add(
        "prompts", task_num, dim("memory_length", self.prompt_length), model_dim
      )
      if self.use_hyperprompt:
        final = dim("task_final", size)
        hidden = dim("prefix_hidden", self.hyperprompt_hidden_dim)
        heads = dim("heads", self.num_heads)
        # They are concatenated, so their dimensions have one name.
        add("task_raw_embedding", task_num, dim("task_embedding", size))
        add("layer_embedding", blocks, dim("task_embedding", size))
        joined = dim("task_embedding", 2 * size)
        add("task_projector_layer_one", joined, dim("task_hidden", size))
        add("task_projector_layer_two", dim("task_hidden", size), final)
        for kind in "kv":
          add(f"hypernet_w_{kind}_up", final, model_dim, hidden)
          add(f"hypernet_w_{kind}_down", final, hidden, heads, self.kv_dim)
    return found
