"""The gated feed-forward layer in NumPy float64, token by token.

Written from the equations alone, with loops where loops are the definition, and
without looking at how the layer computes them. Nothing is vectorised that could
hide a wrong index.
"""

import math

import numpy as np


def sigmoid(x):
  return 1.0 / (1.0 + np.exp(-x))


def gelu(x):
  # T5 1.1 in Mesh TensorFlow uses the tanh approximation of GELU.
  return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {
  "relu": lambda x: np.maximum(x, 0),
  "gelu": gelu,
  "linear": lambda x: x,
}


def gate_matrix(x, params, variant, rows, cols, gate):
  """G [rows, cols] for one conditioning vector x [d_model]."""
  scale = {"sigmoid": 1.0, "two_sigmoid": 2.0}[gate]
  if variant == "row":
    u = x @ params["local_row/kernel"]
    return scale * np.repeat(sigmoid(u)[:, None], cols, axis=1)
  if variant == "col":
    u = x @ params["local_col/kernel"]
    return scale * np.repeat(sigmoid(u)[None, :], rows, axis=0)
  r = (
    params["global_row"]
    if variant[0] == "G"
    else x @ params["local_row/kernel"]
  )
  c = (
    params["global_col"]
    if variant[1] == "G"
    else x @ params["local_col/kernel"]
  )
  return scale * sigmoid(np.outer(r, c))


def expand(g, fan_in, fan_out):
  """psi(G): every weight takes the gate of its region."""
  rows, cols = g.shape
  out = np.empty((fan_in, fan_out))
  for i in range(fan_in):
    for j in range(fan_out):
      out[i, j] = g[i // (fan_in // rows), j // (fan_out // cols)]
  return out


def feed_forward(x, conditions, params, config):
  """The layer for one row of the batch.

  Args:
    x: [length, d_model], the layer's input.
    conditions: [length, d_model], the conditioning vector X of each token, or
      rows of NaN for padding, whose output is not defined.
    params: dict of float64 arrays by variable name below the layer's scope.
    config: dict: variant, rows, cols, gate, gated_kernel, activations.

  Returns:
    [length, d_model], NaN where the condition is NaN.
  """
  names = (
    ["wi"]
    if len(config["activations"]) == 1
    else [f"wi_{i}" for i in range(len(config["activations"]))]
  )
  out = np.full(x.shape, np.nan)
  for t, (token, condition) in enumerate(zip(x, conditions, strict=True)):
    if np.isnan(condition).any():
      continue
    g = gate_matrix(
      condition,
      params,
      config["variant"],
      config["rows"],
      config["cols"],
      config["gate"],
    )
    psi = expand(g, *params[f"{config['gated_kernel_name']}/kernel"].shape)
    h = 1.0
    for name, activation in zip(names, config["activations"], strict=True):
      kernel = params[f"{name}/kernel"]
      if config["gated_kernel"] == "wi":
        kernel = kernel * psi
      h = h * ACTIVATIONS[activation](token @ kernel)
    wo = params["wo/kernel"]
    if config["gated_kernel"] == "wo":
      wo = wo * psi
    out[t] = h @ wo
  return out
