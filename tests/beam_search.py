"""Beam search in NumPy, on the log probabilities of a model."""

from collections.abc import Callable

import numpy as np

EOS = 1


def penalty(length: int, alpha: float) -> float:
  """Length penalty of Wu et al. 2016, equation 14."""
  return ((5 + length) / 6) ** alpha


def search(
  log_probs: Callable,
  count: int,
  steps: int,
  width: int,
  alpha: float,
  prefilter: int = 0,
  parts: int = 1,
) -> list[list[tuple[float, tuple[int, ...]]]]:
  """Beam search as mtf.beam_search documents it, without tensors.

  Of the `2 width` best continuations of the hypotheses that are alive, the
  finished ones compete by their penalised score with those found before, and
  the `width` best of the others stay alive. All inputs stop together: when for
  none an alive hypothesis could still beat its worst finished one.

  Args:
    log_probs: of [(input, prefix)] those of the next token, [rows, vocab].
    count: number of inputs.
    steps: tokens of an answer at most.
    width: hypotheses that are kept.
    alpha: of the length penalty.
    prefilter: likeliest tokens of a hypothesis that compete; 0 for all.
    parts: equal parts of the vocabulary, each of which is filtered.

  Returns:
    for each input at most `width` (score, tokens), the best first; where none
    has finished, those that are alive, with no penalty
  """
  alive: list = [[(0.0, ())] for _ in range(count)]
  finished: list = [[] for _ in range(count)]
  for step in range(1, steps + 1):
    rows = [(n, prefix) for n in range(count) for _, prefix in alive[n]]
    following = iter(log_probs(rows))
    for n in range(count):
      grown = []
      for log_prob, prefix in alive[n]:
        more = next(following)
        # Tokens of each part, the likeliest first; no more than can be kept.
        order = np.argsort(-more.reshape(parts, -1), axis=1)
        order += np.arange(parts)[:, None] * order.shape[1]
        grown += [
          (log_prob + more[token], (*prefix, int(token)))
          for token in order[:, : prefilter or 2 * width].ravel()
        ]
      grown = sorted(grown, reverse=True)[: 2 * width]
      alive[n] = [g for g in grown if g[1][-1] != EOS][:width]
      finished[n] += [
        (log_prob / penalty(step, alpha), tokens)
        for log_prob, tokens in grown
        if tokens[-1] == EOS
      ]
      finished[n] = sorted(finished[n], reverse=True)[:width]
    if all(
      f and f[-1][0] > a[0][0] / penalty(steps, alpha)
      for a, f in zip(alive, finished, strict=True)
    ):
      break
  return [f or a for a, f in zip(alive, finished, strict=True)]
