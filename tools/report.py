r"""Writes a self-contained HTML report of an experiment.

  python -m tools.report --results=runs/embedded/results --output=report.html \
    --gates=L2=runs/embedded/runs/L2/seed0/gates.npz

It has the outcome in words; the tables of `tools.tables`; loss and metrics
against the training step; the models' costs; and, from the files of
`tools.gates`, the gates of each task and layer with the distances between
tasks. Reading it needs no network.
"""

import base64
import datetime
import os

from absl import flags

from hypergrid_mtf.run import console
from tools import flag_groups

FLAGS = flags.FLAGS


def define_flags() -> None:
  """Defines the program's flags."""
  flag_groups.define_results()
  flags.DEFINE_string("output", "report.html", "The page to write.")
  flags.DEFINE_list("gates", [], "NAME=FILE.npz of tools.gates, ….")
  flags.DEFINE_string("title", "HyperGrid and vanilla T5", "The page's title.")


console.read_flags(__name__, define_flags, ["results"])

import jinja2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import ticker

from hypergrid_mtf import errors, gate_figures
from hypergrid_mtf.run import files
from tools import tables
from tools.experiments import protocol, render

plt.switch_backend("Agg")  # no window is opened
_TEMPLATE = "report.html.jinja"
_BY_CHECKPOINT = ("scores", "differences", "published")
_HEADINGS = {
  "averages": "Averages",
  "scores": "Scores",
  "differences": "Differences",
  "published": "Published averages",
  "cost": "Parameters and cost",
  "curves": "Metrics against steps",
  "gates": "Gates",
  "protocol": "Protocol and machine",
}


def _image(figure, alt: str) -> str:
  """A figure as an inline image."""
  data = base64.b64encode(gate_figures.picture(figure, dpi=140)).decode()
  return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def _curve(scores: pd.DataFrame, colors: dict[str, str]):
  """A figure of one quantity against the step: mean and range over seeds."""
  figure, ax = plt.subplots(figsize=(4.2, 2.7), layout="constrained")
  for cell, own in scores.groupby("cell", sort=False):
    by_step = own.groupby("step")["value"]
    # nan if any seed's value is nan, so that no point is drawn.
    known = by_step.apply(lambda v: 1.0 if v.notna().all() else np.nan)
    mean, low, high = (by_step.agg(f) * known for f in ("mean", "min", "max"))
    ax.plot(mean.index, mean, ".-", color=colors[cell], label=cell, ms=3)
    ax.fill_between(
      mean.index, low, high, color=colors[cell], alpha=0.08, linewidth=0
    )
  low, high = scores["value"].min(), scores["value"].max()
  if high - low < 1e-2:  # flat: do not zoom in on noise
    ax.set_ylim(low - 1, high + 1)
  if scores["step"].nunique() == 1:
    ax.set_xlim(scores["step"].iloc[0] - 1, scores["step"].iloc[0] + 1)
  ax.ticklabel_format(useOffset=False, style="plain")
  ax.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
  ax.set_xlabel("training step", fontsize=8)
  ax.tick_params(labelsize=8)
  ax.grid(alpha=0.3)
  ax.legend(fontsize=7)
  return figure


def curves(found: list[dict]) -> list[tuple[str, str]]:
  """The loss, and each metric of each task, against the step.

  Returns:
    (picture, caption) pairs
  """
  frame = pd.DataFrame(
    (r["cell"], task, metric, int(step), value)
    for r in found
    for task, by_metric in {
      "training loss": {"": r.get("losses", {})},
      **r["metrics"],
    }.items()
    for metric, values in by_metric.items()
    for step, value in values.items()
  )
  frame.columns = ["cell", "task", "metric", "step", "value"]
  colors = {c: f"C{i % 10}" for i, c in enumerate(frame["cell"].unique())}
  pictures = []
  for (task, metric), scores in frame.groupby(["task", "metric"], sort=False):
    title = f"{task}: {metric}".removesuffix(": ")
    pictures.append((_image(_curve(scores, colors), title), title))
  return pictures


def gate_pictures(name: str, path: str) -> list[tuple[str, str]]:
  """The gates of one model, and the distances between its tasks.

  Args:
    name: of the model.
    path: of the .npz of `tools.gates`.

  Returns:
    (picture, caption) pairs

  Raises:
    UserError: for any other file.
  """
  gates: dict[str, dict[str, np.ndarray]] = {}
  try:
    with np.load(path) as f:
      for key in f.files:
        task, layer = key.split("/", 1)
        gates.setdefault(task, {})[layer] = f[key]
  except (OSError, ValueError) as e:
    raise errors.UserError(
      f"--gates={name}={path} cannot be read: {errors.sentence(e)}"
    ) from None
  return [
    (
      _image(gate_figures.figure(gates), f"gates of {name}"),
      f"{name}: mean gate of each task (rows) in each layer (columns).",
    ),
    (
      _image(gate_figures.distance_figure(gates), f"distances of {name}"),
      f"{name}: mean absolute difference of two tasks' gates, layer by layer.",
    ),
  ]


def _protocol_table(found: list[dict]) -> pd.DataFrame:
  rows = dict(found[0]["protocol"])
  for part, keys in (
    ("hardware", ("cpu", "cores")),
    ("versions", found[0]["versions"]),
  ):
    for key in keys:
      rows[key] = ", ".join(sorted({str(r[part][key]) for r in found}))
  for task, data in sorted(
    {t: d for r in found for t, d in r["data"].items()}.items()
  ):
    rows[f"data of {task}"] = f"{data['examples']} examples ({data['hash']})"
  return pd.DataFrame({"protocol": list(rows), "": list(rows.values())})


def page(
  found: list[dict],
  made: dict[str, pd.DataFrame],
  gates: list[tuple[str, str]],
  title: str,
  sentences: list[str],
) -> str:
  """The page as HTML."""
  seeds = pd.DataFrame(found).groupby("cell", sort=False)["seed"].nunique()
  protocol_table = _protocol_table(found)
  of_kind = {kind: _distinct(made, kind) for kind in _BY_CHECKPOINT}
  there = {kind for kind, tables in of_kind.items() if tables}
  there |= {"averages", "cost", "curves", "protocol"}
  there |= {"gates"} if gates else set()
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(os.path.dirname(__file__)),
    autoescape=True,
    trim_blocks=True,
  )
  return environment.get_template(_TEMPLATE).render(
    title=title,
    runs=len(found),
    models=", ".join(
      f"{c} ({n} seed{'s' * (n > 1)})" for c, n in seeds.items()
    ),
    date=datetime.date.today().isoformat(),
    headings={k: v for k, v in _HEADINGS.items() if k in there},
    made=made,
    of_kind=of_kind,
    sentences=sentences,
    curves=curves(found),
    gates=gates,
    protocol=protocol_table,
    names=(*render.NAMES, *protocol_table.columns),
    missing=render.MISSING,
  )


def _distinct(made: dict[str, pd.DataFrame], kind: str) -> list:
  """(heading, table) for each choice of checkpoint; equal tables are merged."""
  found: list[tuple[list[str], pd.DataFrame]] = []
  for checkpoint, words in protocol.CHECKPOINTS.items():
    if (table := made.get(f"{kind}_{checkpoint}")) is None:
      continue
    same = next((said for said, other in found if other.equals(table)), None)
    if same is None:
      found.append(([words], table))
    else:
      same.append(words)
  return [(f"Checkpoint: {'; '.join(said)}", table) for said, table in found]


def main(argv) -> None:
  """Writes the page."""
  del argv
  files.check_output(FLAGS.output)
  gates = dict(g.split("=", 1) for g in FLAGS.gates if "=" in g)
  if len(gates) != len(FLAGS.gates):
    raise errors.UserError(
      f"--gates={','.join(FLAGS.gates)}: give NAME=FILE.npz, each name once."
    )
  pictures = [p for g in gates.items() for p in gate_pictures(*g)]
  found, made, sentences = tables.make(FLAGS)
  files.write(FLAGS.output, page(found, made, pictures, FLAGS.title, sentences))
  console.say(f"wrote {FLAGS.output}")


if __name__ == "__main__":
  console.run(main)
