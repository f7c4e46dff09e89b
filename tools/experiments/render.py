"""Tables of results as a person reads them, in three formats."""

import math
from statistics import mean, stdev

import pandas as pd

from hypergrid_mtf.run import files
from tools.experiments import load, protocol, statistics

MISSING = "—"
# Averages that were published, T5-base. docs/fidelity.md has the sources.
_PUBLISHED = (
  ("GLUE, 8 of 8 tasks", "one model a task", "single", 85.7),
  ("SuperGLUE, 8 of 8 tasks", "one model a task", "single", 74.8),
  ("GLUE, 8 of 8 tasks", "HyperGrid, one model", "L2", 85.0),
  ("SuperGLUE, 8 of 8 tasks", "HyperGrid, one model", "L2", 73.6),
)
_SOURCE = "public summaries of arXiv 2007.05891"
# Columns of words; the others hold numbers.
NAMES = ("task", "metric", "average", "model", "source", "on")
_BASE = {"d_model": "768", "num_layers": "12"}


def tables(
  found: list[dict], baseline: str, single: str, differences: bool = True
) -> dict[str, pd.DataFrame]:
  """All tables of some results.

  Args:
    found: from `load.load`.
    baseline: the cell that differences are from.
    single: the cell of one model a task.
    differences: False leaves them out, which take seconds to minutes.

  Returns:
    {"scores_best": table, …}
  """
  models = load.by_model(found, baseline, single)
  made = {"cost": cost_table(models, baseline)}
  for checkpoint in protocol.CHECKPOINTS:
    made[f"scores_{checkpoint}"] = scores_table(models, checkpoint)
    if any("glue" in task for r in found for task in r["metrics"]):
      made[f"published_{checkpoint}"] = published_table(models, checkpoint)
    if differences:
      records = statistics.differences(models, checkpoint, baseline, single)
      if records:
        made[f"differences_{checkpoint}"] = differences_table(
          records, baseline, single
        )
  return made


def _number(values: list[float], form: str) -> str:
  """Their mean; nan, which has no sign, where one of them is nan."""
  if any(map(math.isnan, values)):
    return "nan"
  return format(mean(values), form)


def _mean_text(values: list[float]) -> str:
  if not values:
    return MISSING
  text = _number(values, ".2f")
  if len(values) > 1 and math.isfinite(sum(values)):
    text += f" ± {stdev(values):.2f}"
  return f"{text} ({len(values)})"


def scores_table(models, checkpoint: str) -> pd.DataFrame:
  """Mean ± standard deviation (seeds) of every metric, one column a cell."""
  table = statistics.with_averages(statistics.all_scores(models, checkpoint))
  keys = sorted(
    {k for s in table.values() for v in s.values() for k in v},
    key=lambda k: (k[0] == protocol.AVERAGE, k),
  )
  rows = []
  for task, metric in keys:
    row = {"task": task, "metric": metric}
    for cell, by_seed in table.items():
      row[cell] = _mean_text(
        [v[task, metric] for v in by_seed.values() if (task, metric) in v]
      )
    rows.append(row)
  steps = {"task": "training steps", "metric": ""}
  for cell, by_seed in models.items():
    steps[cell] = _steps(list(by_seed.values()))
  return pd.DataFrame([*rows, steps])


def _range(values: list[float], form: str) -> str:
  low, high = (format(v, form) for v in (min(values), max(values)))
  return low if low == high else f"{low} to {high}"


def _steps(seeds: list[list[dict]]) -> str:
  text = _range([r["steps"] for runs in seeds for r in runs], ",")
  models = max(map(len, seeds))
  return text if models == 1 else f"{models} × {text}"


def cost_table(models, baseline: str) -> pd.DataFrame:
  """What each model holds and took; of several models a seed, the sum.

  Args:
    models: from `load.by_model`.
    baseline: the cell that sizes are compared with.

  Returns:
    one row a cell
  """

  def size(cell, which):
    runs = max(models[cell].values(), key=len)
    return sum(r["parameters"][which] for r in runs)

  rows = []
  for cell, by_seed in models.items():
    seconds = [
      sum(r["training_seconds"] for r in runs) for runs in by_seed.values()
    ]
    steps = [sum(r["steps"] for r in runs) for runs in by_seed.values()]
    own = size(cell, "beside_embedding")
    rows.append(
      {
        "model": cell,
        "models a seed": _range([len(r) for r in by_seed.values()], "d"),
        "parameters": f"{size(cell, 'total'):,}",
        "beside the embedding": f"{own:,}",
        f"of {baseline}'s": (
          f"{own / size(baseline, 'beside_embedding'):.3f}"
          if baseline in models
          else MISSING
        ),
        "training steps": _steps(list(by_seed.values())),
        "minutes of training": _range([s / 60 for s in seconds], ".1f"),
        "steps a second": f"{sum(steps) / max(sum(seconds), 1e-9):.2f}",
        "on": ", ".join(
          sorted(
            {
              f"{r['hardware']['cpu']}, {r['hardware']['cores']} cores"
              for runs in by_seed.values()
              for r in runs
            }
          )
        ),
      }
    )
  return pd.DataFrame(rows)


def published_table(models, checkpoint: str) -> pd.DataFrame:
  """Our averages beside the published ones, where they are of the same thing.

  Args:
    models: from `load.by_model`.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    a DataFrame; what was not run, or on other tasks or another size, is missing
  """
  table = statistics.with_averages(statistics.all_scores(models, checkpoint))
  rows = []
  for label, what, cell, value in _PUBLISHED:
    ours = [
      v[protocol.AVERAGE, label]
      for seed, v in table.get(cell, {}).items()
      if (protocol.AVERAGE, label) in v
      and all(
        r["config"].get(k) == size
        for r in models[cell][seed]
        for k, size in _BASE.items()
      )
    ]
    rows.append(
      {
        "average": label,
        "model": f"{what} ({cell})",
        "ours": _mean_text(ours),
        "published": f"{value:.1f}",
        "difference": (f"{mean(ours) - value:+.2f}" if ours else MISSING),
        "source": _SOURCE,
      }
    )
  return pd.DataFrame(rows)


def differences_table(
  records: list[dict], baseline: str, single: str
) -> pd.DataFrame:
  """Records of `statistics.differences` as a person reads them."""
  return pd.DataFrame(
    [
      {
        "average": r["average"],
        "model": r["cell"],
        f"minus {baseline} [95 % interval]": r["difference"].to_text(),
        f"share of the gap to {single}": (
          r["share"].to_text(percent=True) if "share" in r else MISSING
        ),
        "seeds": str(r["seeds"]),
      }
      for r in records
    ]
  )


def to_markdown(frame: pd.DataFrame) -> str:
  """Markdown, what is not a name to the right."""
  return frame.to_markdown(
    index=False,
    colalign=["left" if c in NAMES else "right" for c in frame.columns],
    disable_numparse=True,
  )


def write(frame: pd.DataFrame, stem: str) -> list[str]:
  """Writes a table in the three formats.

  Args:
    frame: of text.
    stem: the path without its ending.

  Returns:
    the paths
  """
  texts = {
    ".md": to_markdown(frame) + "\n",
    ".csv": frame.to_csv(index=False),
    ".tex": frame.to_latex(index=False, escape=True),
  }
  for ending, text in texts.items():
    files.write(stem + ending, text)
  return [stem + ending for ending in texts]
