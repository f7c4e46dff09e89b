"""The layers of the peers in NumPy float64, token by token.

Written from the equations alone, as the oracle of HyperGrid. Parameters have
the names of the variables, without the scope of the layer or the stack.
"""

import dataclasses

import numpy as np

from tests.hypergrid_mtf import oracle


@dataclasses.dataclass(frozen=True)
class Tokens:
  """A row: which example, place in it, and task each token has.

  Attributes:
    segment: [length]; 0 is padding.
    position: [length].
    task: [length].
  """

  segment: np.ndarray
  position: np.ndarray
  task: np.ndarray


def layer_norm(x, scale, bias):
  x = x - x.mean()
  return x / np.sqrt((x**2).mean() + 1e-6) * scale + bias


def _bucket(relative_position, causal):
  """T5's bucket of 32, for the distances that have one of their own."""
  assert abs(relative_position) <= (16 if causal else 8)
  later = relative_position > 0 and not causal
  return 16 * later + abs(relative_position)


def attention(x, memory, tokens, memory_tokens, p, causal, prompts=None):
  """T5's attention with (IA)³'s vectors or a task's prompts, if there are any.

  Args:
    x: [length, d_model].
    memory: [memory_length, d_model].
    tokens: Tokens of x.
    memory_tokens: of the memory.
    p: {name: array}.
    causal: whether a token sees no later one.
    prompts: keys and values, each [tasks, n, heads, d_kv].
  """
  y = np.zeros_like(x)
  heads, d_kv = p["heads"]
  for t, segment in enumerate(tokens.segment):
    if not segment:
      continue
    task = tokens.task[t]
    keys, values, places = [], [], []
    for i in range(prompts[0].shape[1] if prompts else 0):
      keys.append(prompts[0][task, i])
      values.append(prompts[1][task, i])
      places.append(i - prompts[0].shape[1])
    for m, other in enumerate(memory_tokens.segment):
      if other != segment or (causal and m > t):
        continue
      k, v = ((memory[m] @ p[n]).reshape(heads, d_kv) for n in "kv")
      if "ia3/k" in p:
        k, v = k * p["ia3/k"][task], v * p["ia3/v"][task]
      keys.append(k)
      values.append(v)
      places.append(memory_tokens.position[m])
    q = (x[t] @ p["q"]).reshape(heads, d_kv)
    logits = np.array([(q * k).sum(-1) for k in keys])  # [memory, heads]
    if "relative_attention_bias" in p:
      for i, place in enumerate(places):
        at = _bucket(place - tokens.position[t], causal)
        logits[i] += p["relative_attention_bias"][:, at]
    weights = np.exp(logits - logits.max(0))
    weights /= weights.sum(0)
    y[t] = (weights[..., None] * np.array(values)).sum(0).ravel() @ p["o"]
  return y


def feed_forward(x, tokens, p):
  """T5's feed-forward layer with (IA)³'s vectors, if there are any."""
  h = np.maximum(x @ p["wi/kernel"], 0)
  if "ia3/hidden" in p:
    h = h * p["ia3/hidden"][tokens.task]
  return h @ p["wo/kernel"]


def adapted(y, tokens, p, block, place):
  """y and its adapter, which HyperFormer++ makes if there are its maps."""
  out = y.copy()
  for t, task in enumerate(tokens.task):
    if "adapter/scale" not in p:
      down, up = p["adapter/down"][task], p["adapter/up"][task]
      out[t] += oracle.gelu(y[t] @ down) @ up
      continue
    z = np.concatenate(
      [p["adapter/task"][task], p["adapter/block"][block]]
      + [p["adapter/place"][place]]
    )
    z = np.maximum(z @ p["adapter/hidden"], 0) @ p["adapter/output"]
    z = layer_norm(z, *_norm(p, "adapter/layer_norm"))
    down, up, scale, bias = (
      np.tensordot(z, p[f"adapter/{name}"], 1)
      for name in ("down", "up", "scale", "bias")
    )
    out[t] += layer_norm(oracle.gelu(y[t] @ down) @ up, scale, bias)
  return out


def _norm(p, name):
  name += "/layer_norm/layer_norm_"
  return p[name + "scale"], p[name + "bias"]


def prompts(p, variant, block):
  """HyperPrompt's keys and values of a layer, [tasks, n, heads, d_kv] each."""
  found = []
  for kind in "kv":
    of_kind = []
    for task, prompt in enumerate(p["hyperprompt/prompts"]):
      if variant == "global":
        z = np.concatenate(
          [
            p["hyperprompt/task_raw_embedding"][task],
            p["hyperprompt/layer_embedding"][block],
          ]
        )
        z = np.maximum(z @ p["hyperprompt/task_projector_layer_one"], 0)
        z = z @ p["hyperprompt/task_projector_layer_two"]
        z = layer_norm(z, *_norm(p, "hyperprompt/prompt_task_embed_layernorm"))
        a, b = (
          np.tensordot(z, p[f"hyperprompt/hypernet_w_{kind}_{side}"], 1)
          for side in ("up", "down")
        )
      else:
        a, b = (
          p[f"hyperprompt/prompt/w_{kind}_{side}"] for side in ("up", "down")
        )
        if variant == "sep":
          a, b = a[task], b[task]
      norm = _norm(p, "hyperprompt/prompts_layernorm")
      rows = [layer_norm(row, *norm) for row in prompt]
      of_kind.append([np.tensordot(np.maximum(r @ a, 0), b, 1) for r in rows])
    found.append(np.array(of_kind))
  return found
