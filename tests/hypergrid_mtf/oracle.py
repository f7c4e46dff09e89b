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


# gate -> G of the logits, and its slope, of G
GATES = {
  "sigmoid": (sigmoid, lambda g: g * (1 - g)),
  "two_sigmoid": (lambda z: 2 * sigmoid(z), lambda g: g * (1 - g / 2)),
  "tanh": (np.tanh, lambda g: 1 - g**2),  # one that the layer does not name
}


def gate_matrix(x, params, variant, rows, cols, gate):
  """G [rows, cols] for one conditioning vector x [d_model]."""
  function, _ = GATES[gate]
  if variant == "row":
    u = x @ params["local_row/kernel"]
    return np.repeat(function(u)[:, None], cols, axis=1)
  if variant == "col":
    u = x @ params["local_col/kernel"]
    return np.repeat(function(u)[None, :], rows, axis=0)
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
  return function(np.outer(r, c))


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
    config: dict, by the layer's names: variant, grid_rows, grid_cols, gate,
      gated_kernel, activation (a list).

  Returns:
    [length, d_model], NaN where the condition is NaN.
  """
  activations, gated = config["activation"], config["gated_kernel"]
  names = [f"wi_{i}" for i in range(len(activations))]
  names = names if len(names) > 1 else ["wi"]
  out = np.full(x.shape, np.nan)
  for t, (token, condition) in enumerate(zip(x, conditions, strict=True)):
    if np.isnan(condition).any():
      continue
    g = gate_matrix(
      condition,
      params,
      config["variant"],
      config["grid_rows"],
      config["grid_cols"],
      config["gate"],
    )
    name = "wo" if gated == "wo" else names[0]
    psi = expand(g, *params[f"{name}/kernel"].shape)
    h = 1.0
    for name, activation in zip(names, activations, strict=True):
      kernel = params[f"{name}/kernel"]
      if gated == "wi":
        kernel = kernel * psi
      h = h * ACTIVATIONS[activation](token @ kernel)
    wo = params["wo/kernel"]
    if gated == "wo":
      wo = wo * psi
    out[t] = h @ wo
  return out


def gradients(x, conditions, params, config, dy):
  """Gradients of sum(dy * feed_forward(...)), token by token.

  For one factor, which is enough to see every path of the gate.

  Args:
    x: as in feed_forward.
    conditions: as in feed_forward.
    params: as in feed_forward.
    config: as in feed_forward, with one activation, "relu" or
      "linear".
    dy: [length, d_model].

  Returns:
    gradients of x, of conditions (zero where a condition is NaN), and a dict of
    gradients by variable name
  """
  (activation,) = config["activation"]
  slope = {"relu": lambda x: x > 0, "linear": np.ones_like}[activation]
  dx, dconditions = np.zeros_like(x), np.zeros_like(x)
  grads = {k: np.zeros_like(v) for k, v in params.items()}
  gated = config["gated_kernel"]
  _, gate_slope = GATES[config["gate"]]
  shape = config["grid_rows"], config["grid_cols"]
  for t, (token, condition) in enumerate(zip(x, conditions, strict=True)):
    if np.isnan(condition).any():
      continue
    g = gate_matrix(
      condition, params, config["variant"], *shape, config["gate"]
    )
    psi = {"wi": 1.0, "wo": 1.0}
    psi[gated] = expand(g, *params[f"{gated}/kernel"].shape)
    wi, wo = (params[f"{k}/kernel"] * psi[k] for k in ("wi", "wo"))
    before = token @ wi
    h = ACTIVATIONS[activation](before)
    dh = (wo @ dy[t]) * slope(before)
    dx[t] = wi @ dh
    dkernels = {"wo": np.outer(h, dy[t]), "wi": np.outer(token, dh)}
    for k, dk in dkernels.items():
      grads[f"{k}/kernel"] += dk * psi[k]
    # From the weights to their regions, and through the gate's function.
    of_weights = dkernels[gated] * params[f"{gated}/kernel"]
    dg = np.zeros(shape)
    height, width = (
      n // m for n, m in zip(of_weights.shape, shape, strict=True)
    )
    for i in range(of_weights.shape[0]):
      for j in range(of_weights.shape[1]):
        dg[i // height, j // width] += of_weights[i, j]
    dlogits = dg * gate_slope(g)
    variant = config["variant"]
    if variant in ("row", "col"):
      sides = {variant: dlogits.sum(axis=1 if variant == "row" else 0)}
    else:
      r, c = (
        params[f"global_{side}"]
        if f"global_{side}" in params
        else condition @ params[f"local_{side}/kernel"]
        for side in ("row", "col")
      )
      sides = {"row": dlogits @ c, "col": r @ dlogits}
    for side, d in sides.items():
      if f"global_{side}" in params:
        grads[f"global_{side}"] += d
      else:
        grads[f"local_{side}/kernel"] += np.outer(condition, d)
        dconditions[t] += params[f"local_{side}/kernel"] @ d
  return dx, dconditions, grads
