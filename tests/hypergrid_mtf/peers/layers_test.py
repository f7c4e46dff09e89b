"""Each layer of the peers against a float64 oracle of its equations.

Gradients of the oracle are central differences along a random direction of
each input and each variable.
"""

import types

import gin
import mesh_tensorflow as mtf
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from mesh_tensorflow.transformer import attention

from hypergrid_mtf.peers import adapter, hyperprompt, ia3
from tests.hypergrid_mtf import layers_test, mtf_testing
from tests.hypergrid_mtf.peers import oracle

VOCAB_SIZE, TASKS, D_MODEL, D_FF, HEADS, D_KV = 40, 3, 12, 10, 2, 5
BLOCK, BLOCKS, PROMPT, BOTTLENECK, EMBEDDING = 1, 2, 2, 3, 4
SEGMENTS = layers_test.SEGMENTS, layers_test.MEMORY_SEGMENTS
TASK_OF = np.array([[2, 1, 0], [0, 2, 2], [1, 0, 0]])  # of a row's examples
ATTENTION = {
  "num_heads": HEADS,
  "key_value_size": D_KV,
  "relative_attention_type": "bias",
}
DENSE = {"hidden_size": D_FF, "activation": "relu"}
# {peer: {class of T5's layer: what makes the peer's}}
PEERS = {
  "ia3": {
    "SelfAttention": lambda: ia3.SelfAttention(**ATTENTION),
    "EncDecAttention": lambda: ia3.EncDecAttention(
      **{**ATTENTION, "relative_attention_type": None}
    ),
    "DenseReluDense": lambda: ia3.DenseReluDense(**DENSE),
  },
  **{
    name: {
      "SelfAttention": lambda: adapter.SelfAttention(**ATTENTION),
      "DenseReluDense": lambda: adapter.DenseReluDense(**DENSE),
    }
    for name in ("adapter", "hyperformer")
  },
  **{
    f"hyperprompt_{variant}": {
      "SelfAttention": lambda variant=variant: hyperprompt.SelfAttention(
        variant, PROMPT, BOTTLENECK, EMBEDDING, **ATTENTION
      )
    }
    for variant in hyperprompt.VARIANTS
  },
}


def _bind(peer):
  gin.clear_config()
  gin.parse_config(f"""
    num_tasks.count = {TASKS}
    Adapter.bottleneck = {BOTTLENECK}
    Adapter.embedding_size = {EMBEDDING}
    Adapter.hidden_size = 6
    Adapter.hypernetwork = {peer == "hyperformer"}
  """)


def _tokens(segments, packed):
  """(Tokens of each row, its input ids that begin with task tokens)."""
  segments = segments if packed else np.minimum(segments, 1)
  rng = np.random.default_rng(0)
  ids = rng.integers(2, VOCAB_SIZE - TASKS, segments.shape)
  rows = []
  for row, of_row, own in zip(ids, segments, TASK_OF, strict=True):
    first = np.array([np.argmax(of_row == s) for s in of_row])
    task = own[np.maximum(of_row, 1) - 1]
    at = np.arange(len(of_row))
    row[:] = np.where(first == at, VOCAB_SIZE - 1 - task, row) * (of_row > 0)
    position = at - first if packed else at
    rows.append(oracle.Tokens(of_row, position, task))
  return rows, ids


def _context(mesh, x, memory, stack, packed):
  """A Context as a stack's layers get it, with an outer batch of one."""
  dims = ["outer_batch", "batch", "length"]
  memory_dims = [*dims[:2], "memory_length"]

  def given(value, names):
    value = value[None].astype(np.int32)
    return mtf_testing.import_array(mesh, value, names)

  (_, ids), (_, memory_ids) = (_tokens(s, packed) for s in SEGMENTS)
  segments, memory_segments = (
    given(s, of) for s, of in zip(SEGMENTS, (dims, memory_dims), strict=True)
  )
  if not packed:
    segments, memory_segments = (
      mtf.minimum(t, 1) for t in (segments, memory_segments)
    )
  decoder = stack == "decoder"
  length = x.shape.dims[-2]
  context = mtf_testing.fake_context(
    x,
    decoder,
    sequence_id=segments,
    position=mtf.range(mesh, length, tf.int32),  # in the row, as T5 has it
    inputs=given(ids, dims),
    encoder_sequence_id=memory_segments,
    encoder_output=memory,
    encoder_inputs=given(memory_ids, memory_dims),
    **dict.fromkeys(
      ("read_priority", "write_priority"),
      mtf.range(mesh, length, tf.int32) if decoder else None,
    ),
  )
  vars(context.model).update(
    ensemble_dim=None,
    fully_autoregressive=decoder,
    input_vocab_size_unpadded=VOCAB_SIZE,
    layer_stack=types.SimpleNamespace(
      layers=[
        types.SimpleNamespace(name=f"block_{i:03}/layer_000")
        for i in range(BLOCKS)
      ]
    ),
  )
  return context


def _values(graph):
  """{variable: a random value}, of which no layer gets too large a number."""
  found = {}
  for i, variable in enumerate(graph.all_variables):
    shape = variable.shape.to_integer_list
    value = np.random.default_rng(i).normal(0, 1, shape)
    if len(shape) > 1:
      value *= (value.size / shape[-1]) ** -0.5
    found[variable.name] = value
  return found


def _parameters(values, stack, kind):
  """The oracle's, of one layer."""
  found = {"heads": (HEADS, D_KV)}
  for name, value in values.items():
    for scope in (f"{stack}/block_{BLOCK:03}/layer_000/{kind}/", f"{stack}/"):
      short = name.removeprefix(scope)
      if short != name and not short.startswith("block_"):
        found[short] = value
        break
  return found


def _want(peer, kind, stack, p, x, memory, packed):
  """y of one row after another, by the oracle."""
  (rows, _), (memory_rows, _) = (_tokens(s, packed) for s in SEGMENTS)
  out = []
  for r, tokens in enumerate(rows):
    if kind == "DenseReluDense":
      y = oracle.feed_forward(x[r], tokens, p)
    elif kind == "EncDecAttention":
      y = oracle.attention(
        x[r], memory[r], tokens, memory_rows[r], p, causal=False
      )
    else:
      prompts = None
      if peer.startswith("hyperprompt"):
        prompts = oracle.prompts(p, peer.split("_")[1], BLOCK)
      y = oracle.attention(
        x[r], x[r], tokens, tokens, p, stack == "decoder", prompts
      )
    if peer in ("adapter", "hyperformer"):
      y = oracle.adapted(y, tokens, p, BLOCK, int(kind == "DenseReluDense"))
    out.append(y)
  return np.array(out)


@pytest.mark.parametrize("peer", PEERS)
def test_outputs_and_gradients_are_the_oracles(peer):
  _bind(peer)
  rng = np.random.default_rng(0)
  given = [rng.normal(size=(*s.shape, D_MODEL)) for s in SEGMENTS]
  dy = rng.normal(size=given[0].shape)
  fetches = {}
  with tf.Graph().as_default():
    mesh = mtf_testing.mesh(mtf.Graph())
    dims = ["outer_batch", "batch", "length", "d_model"]
    x, memory, weights = (
      mtf_testing.import_array(
        mesh, value[None], [*dims[:2], length, dims[3]], tf.float32
      )
      for value, length in (
        (given[0], "length"),
        (given[1], "memory_length"),
        (dy, "length"),
      )
    )
    for kind, make in PEERS[peer].items():
      for stack in ("encoder", "decoder"):
        if kind == "EncDecAttention" and stack == "encoder":
          continue
        for packed in (False, True):
          context = _context(mesh, x, memory, stack, packed)
          with tf.variable_scope(
            f"{stack}/block_{BLOCK:03}/layer_000/{kind}", reuse=tf.AUTO_REUSE
          ):
            y = make().call(context, x)
          real = mtf.cast(context.nonpadding, tf.float32)
          loss = mtf.reduce_sum(y * real * weights)
          variables = {
            v.name: v.outputs[0] for v in mesh.graph.trainable_variables
          }
          wrt = {"x": x, "memory": memory, **variables}
          found = mtf.gradients([loss], list(wrt.values()))
          of_each = {
            name: g for name, g in zip(wrt, found, strict=True) if g is not None
          }
          fetches[kind, stack, packed] = [y, of_each]
    values = _values(mesh.graph)
    got = mtf_testing.evaluate(
      mesh, {str(k): v for k, v in fetches.items()}, values
    )
  reached = set()
  for kind, stack, packed in fetches:
    y, gradients = got[str((kind, stack, packed))]
    real = (SEGMENTS[0] > 0)[..., None]

    def want(values, x=given[0], memory=given[1]):
      p = _parameters(values, stack, kind)  # noqa: B023
      return _want(peer, kind, stack, p, x, memory, packed)  # noqa: B023

    right = want(values)
    case = f"{kind} {stack} packed={packed}"
    error = np.abs((y[0] - right) * real).max()
    assert error < 1e-5 * np.abs(right).max(), case
    everything = {"x": given[0], "memory": given[1], **values}
    for name, gradient in gradients.items():
      direction = rng.normal(size=everything[name].shape)
      sides = []
      for sign in (1, -1):
        moved = everything | {name: everything[name] + sign * 1e-5 * direction}
        of_inputs = moved.pop("x"), moved.pop("memory")
        sides.append((want(moved, *of_inputs) * real * dy).sum())
      slope = (sides[0] - sides[1]) / 2e-5
      gradient = gradient.reshape(direction.shape)
      np.testing.assert_allclose(
        (gradient * direction).sum(),
        slope,
        rtol=1e-4,
        atol=1e-4 * np.linalg.norm(gradient),
        err_msg=f"{case} {name}",
      )
      if np.abs(gradient).max() > 1e-6:
        reached.add(name)
  assert reached >= set(values)


@pytest.mark.parametrize("variant", hyperprompt.VARIANTS)
def test_prompts_are_those_of_the_authors_functions(variant):
  """Of mesh_tensorflow, which takes a task number of each row."""
  _bind(variant)
  scope = f"encoder/block_{BLOCK:03}/layer_000/SelfAttention"
  given = [np.zeros((*s.shape, D_MODEL)) for s in SEGMENTS]
  with tf.Graph().as_default():
    mesh = mtf_testing.mesh(mtf.Graph())
    x, memory = (
      mtf_testing.import_array(
        mesh, v[None], ["outer_batch", "batch", "length", "d_model"], tf.float32
      )
      for v in given
    )
    layer = PEERS[f"hyperprompt_{variant}"]["SelfAttention"]()
    with tf.variable_scope(scope):
      context = _context(mesh, x, memory, "encoder", packed=False)
      *found, _ = layer._prompts(context)
    values = _values(mesh.graph)
    got = mtf_testing.evaluate(mesh, found, values)
  with tf.Graph().as_default():
    mesh = mtf_testing.mesh(mtf.Graph())
    shared = {}
    for name, value in values.items():
      short = name.removeprefix("encoder/hyperprompt/")
      if short == name:
        continue
      dims = {
        "prompts": "task_num memory_length d_model",
        "task_raw_embedding": "task_num e",
        "layer_embedding": "blocks e",
        "task_projector_layer_one": "e hidden",
        "task_projector_layer_two": "hidden final",
      }.get(short, "final d_model prefix_hidden")
      if short.endswith("down"):
        dims = "final prefix_hidden heads d_kv"
      dims = map(mtf.Dimension, dims.split(), value.shape)
      with tf.variable_scope("encoder/hyperprompt"):
        shared[short] = mtf.get_variable(mesh, short, mtf.Shape(list(dims)))
    context = types.SimpleNamespace(
      mesh=mesh,
      cache={
        "task-id": mtf_testing.import_array(
          mesh, TASK_OF[:, :1].astype(np.int32), ["batch", "length"]
        )
      },
      shared_params={"encoder": shared},
      model=types.SimpleNamespace(model_dim=x.shape.dims[-1]),
      variable_dtype=mtf_testing.FLOAT32,
      train=False,
    )
    sizes = (TASKS, HEADS, BOTTLENECK, mtf.Dimension("d_kv", D_KV), context)
    with tf.variable_scope(f"{scope}/hyperprompt"):
      if variant == "global":
        found = attention.make_params_hyperprompt(
          *sizes, False, 0.0, PROMPT, "encoder"
        )
      else:
        found = attention.make_params_mtlprompt(
          *sizes, variant == "share", 0.0, PROMPT
        )
    assert {v.name for v in mesh.graph.all_variables} == set(values)
    want = mtf_testing.evaluate(mesh, list(found), values)
  for ours, theirs in zip(got, want, strict=True):
    np.testing.assert_allclose(ours[0], theirs, rtol=0, atol=1e-5)
