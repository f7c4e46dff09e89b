"""Tables of results for readers, in three formats."""

import os
import re

import pandas as pd

from hypergrid_mtf import errors
from hypergrid_mtf.run import files
from tools.experiments import protocol, statistics

MISSING = "—"
# Published averages of T5-base. docs/fidelity.md has the sources.
_PUBLISHED = (
  ("GLUE, 8 of 8 tasks", "one model per task", "single", 85.7),
  ("SuperGLUE, 8 of 8 tasks", "one model per task", "single", 74.8),
  ("GLUE, 8 of 8 tasks", "HyperGrid, one model", "L2", 85.0),
  ("SuperGLUE, 8 of 8 tasks", "HyperGrid, one model", "L2", 73.6),
)
_SOURCE = "public summaries of arXiv 2007.05891"
# Columns of words; the others are numbers.
NAMES = ("task", "metric", "average", "model", "source", "on")
_BASE = {"d_model": "768", "num_layers": "12"}


def tables(
  found: list[dict],
  scores: dict[str, pd.DataFrame],
  baseline: str,
  single: str,
) -> dict[str, pd.DataFrame]:
  """Makes all tables of results, {"scores_best": table, …}.

  Args:
    found: from `result.in_order`.
    scores: {checkpoint: from `statistics.scores`}.
    baseline: the cell that is subtracted.
    single: the cell with one model per task.
  """
  costs = _costs(found)
  made = {"cost": cost_table(costs, baseline), "averages": averages(scores)}
  for checkpoint, frame in scores.items():
    made[f"scores_{checkpoint}"] = scores_table(frame, costs)
    if frame["task"].str.contains("glue").any():
      made[f"published_{checkpoint}"] = published_table(found, frame)
    if records := statistics.differences(frame, baseline, single):
      made[f"differences_{checkpoint}"] = pd.DataFrame(
        {
          "average": r["average"],
          "model": r["cell"],
          f"minus {baseline} [95 % interval]": r["difference"].to_text(),
          f"share of the gap to {single}": (
            r["share"].to_text(".0%") if "share" in r else MISSING
          ),
          "seeds": str(r["seeds"]),
        }
        for r in records
      )
  return made


def _mean_text(values: pd.Series) -> str:
  """Mean ± standard deviation (seeds); nan if any value is nan."""
  count = f" ({len(values)})" if len(values) else ""
  if not count or values.isna().any():
    return f"nan{count}" if count else MISSING
  spread = f" ± {values.std():.2f}" if len(values) > 1 else ""
  return f"{values.mean():.2f}{spread}{count}"


def averages(scores: dict[str, pd.DataFrame]) -> pd.DataFrame:
  """Every average of every model, for each choice of checkpoint."""
  columns = {}
  for checkpoint, frame in scores.items():
    own = frame[frame["task"] == protocol.AVERAGE]
    by_cell = own.groupby(["metric", "cell"], sort=False)["value"]
    columns[protocol.CHECKPOINTS[checkpoint]] = by_cell.agg(_mean_text)
  table = pd.DataFrame(columns).fillna(MISSING)
  return table.rename_axis(["average", "model"]).reset_index()


def scores_table(frame: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
  """Mean ± standard deviation (seeds) of every metric, one column per cell."""
  by_cell = frame.groupby(["task", "metric", "cell"])["value"]
  table = by_cell.agg(_mean_text).unstack("cell", fill_value=MISSING)
  table = table[frame["cell"].unique()].rename_axis(columns=None).reset_index()
  table = table.sort_values(
    "task", key=lambda tasks: tasks == protocol.AVERAGE, kind="stable"
  )
  steps = _by_cell(costs, _steps).to_dict()
  steps.update(task="training steps", metric="")
  return pd.concat([table, pd.DataFrame([steps])], ignore_index=True)


def _costs(found: list[dict]) -> pd.DataFrame:
  """One row per seed of a model; for one model per task, the sums."""
  runs = pd.DataFrame(found)[["cell", "seed", "steps", "training_seconds"]]
  runs["total"] = [r["parameters"]["total"] for r in found]
  runs["own"] = [r["parameters"]["beside_embedding"] for r in found]
  sizes = (r["parameters"] for r in found)
  runs["trained"] = [size.get("trained", size["total"]) for size in sizes]
  machines = (r["hardware"] for r in found)
  runs["on"] = [f"{m['cpu']}, cores: {m['cores']}" for m in machines]
  by_seed = runs.groupby(["cell", "seed"], sort=False, as_index=False)
  return by_seed.agg(
    least=("steps", "min"),
    most=("steps", "max"),
    steps=("steps", "sum"),
    models=("steps", "size"),
    seconds=("training_seconds", "sum"),
    total=("total", "sum"),
    own=("own", "sum"),
    trained=("trained", "sum"),
    on=("on", set),
  )


def _by_cell(costs: pd.DataFrame, function) -> pd.Series:
  return pd.Series(
    {cell: function(own) for cell, own in costs.groupby("cell", sort=False)}
  )


def _range(least: float, most: float, form: str) -> str:
  low, high = format(least, form), format(most, form)
  return low if low == high else f"{low} to {high}"


def _steps(seeds: pd.DataFrame) -> str:
  text = _range(seeds["least"].min(), seeds["most"].max(), ",")
  models = seeds["models"].max()
  return text if models == 1 else f"{models} × {text}"


def cost_table(costs: pd.DataFrame, baseline: str) -> pd.DataFrame:
  """The parameters and cost of each model, also relative to the baseline."""
  # From a seed that has all models.
  whole = _by_cell(costs, lambda seeds: seeds.loc[seeds["models"].idxmax()])
  rows = []
  for cell, seeds in costs.groupby("cell", sort=False):
    size, models = whole[cell], seeds["models"]
    seconds, minutes = seeds["seconds"].sum(), seeds["seconds"] / 60
    part = MISSING
    if baseline in whole:
      part = f"{size['own'] / whole[baseline]['own']:.3f}"
    rows.append(
      {
        "model": cell,
        "models per seed": _range(models.min(), models.max(), "d"),
        "parameters": f"{size['total']:,}",
        "without the embedding": f"{size['own']:,}",
        f"of {baseline}'s": part,
        "trained": f"{size['trained']:,}",
        "training steps": _steps(seeds),
        "minutes of training": _range(minutes.min(), minutes.max(), ".1f"),
        "steps per second": f"{seeds['steps'].sum() / max(seconds, 1e-9):.2f}",
        "on": ", ".join(sorted(set.union(*seeds["on"]))),
      }
    )
  return pd.DataFrame(rows)


def published_table(found: list[dict], frame: pd.DataFrame) -> pd.DataFrame:
  """Our averages next to the published ones of the same quantity.

  Values not run, or run on other tasks or sizes, are missing.
  """
  other_size = {
    (r["cell"], r["seed"])
    for r in found
    if any(r["config"].get(key) != size for key, size in _BASE.items())
  }
  by_label = statistics.averages(frame)
  rows = []
  for label, what, cell, value in _PUBLISHED:
    ours = by_label.get(label, {}).get(cell, pd.Series(dtype=float))
    ours = ours[[s for s in ours.index if (cell, s) not in other_size]]
    rows.append(
      {
        "average": label,
        "model": f"{what} ({cell})",
        "ours": _mean_text(ours),
        "published": f"{value:.1f}",
        "difference": f"{ours.mean() - value:+.2f}" if len(ours) else MISSING,
        "source": _SOURCE,
      }
    )
  return pd.DataFrame(rows)


def to_markdown(frame: pd.DataFrame) -> str:
  """Markdown, with everything but names aligned right."""
  return frame.to_markdown(
    index=False,
    colalign=["left" if c in NAMES else "right" for c in frame.columns],
    disable_numparse=True,
  )


def write(frame: pd.DataFrame, stem: str) -> None:
  """Writes a table of text to `<stem>.md`, `.csv` and `.tex`."""
  files.write(f"{stem}.md", to_markdown(frame) + "\n")
  files.write(f"{stem}.csv", frame.to_csv(index=False))
  files.write(f"{stem}.tex", frame.to_latex(index=False, escape=True))


def update(text: str, results_path: str, made: dict[str, pd.DataFrame]) -> str:
  """Updates the tables in a document, such as docs/results.md.

  Args:
    text: with places that start with `<!-- RESULTS: scores_last -->`, where
      RESULTS is the path given to --results, and end with `<!-- end -->`.
    results_path: the path of the results.
    made: from `tables`; empty to check only the places.

  Returns:
    the document with the new tables

  Raises:
    UserError: if there is no place, or a place for an unknown table.
  """

  def table(match):
    name = match[2]
    if name not in made:
      raise errors.UserError(
        f"there is a place for {results_path}: {name}, but the tables are "
        f"{', '.join(made)}."
      )
    return f"{match[1]}\n\n{to_markdown(made[name])}\n\n<!-- end -->"

  return places(text, results_path).sub(table, text)


def places(text: str, results_path: str) -> re.Pattern:
  """Matches the places of results; raises UserError if there is none."""
  path = re.escape(results_path.rstrip("/"))
  place = re.compile(rf"(<!-- {path}/?: (\w+) -->).*?<!-- end -->", re.S)
  if not place.search(text):
    raise errors.UserError(
      f"the document has no place <!-- {results_path}: scores_last -->."
    )
  return place


def read(document: str) -> str:
  if not os.path.isfile(document):
    raise errors.UserError(f"--update={document} is not a file.")
  with open(document) as f:
    return f.read()
