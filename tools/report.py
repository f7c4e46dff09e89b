r"""One self-contained HTML page of an experiment, to read or to print.

  python -m tools.report --results=runs/embedded/results --output=report.html \
    --gates=L2=runs/embedded/runs/L2/seed0/gates.npz

The tables of `tools.tables`; every metric against the training step; what the
models cost; and, from the files of `tools.gates`, the gates of each task and
layer with the distances between tasks. No network is needed to read it.
"""

import base64
import datetime
import os

import jinja2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, files
from tools import tables
from tools.experiments import gate_figures, render

FLAGS = flags.FLAGS

_TEMPLATE = "report.html.jinja"
_HEADINGS = {
  "scores": "Scores",
  "differences": "Differences",
  "published": "Published averages",
  "cost": "Parameters and cost",
  "curves": "Metrics against steps",
  "gates": "Gates",
  "protocol": "Protocol and machine",
}
_CHECKPOINTS = {
  "best": "Best checkpoint of each task (T5's protocol; it flatters, being "
  "chosen on the same validation set)",
  "one": "Best checkpoint of all tasks by their average (chosen on the same "
  "validation set)",
  "last": "Last checkpoint",
}


def _image(figure, alt: str) -> str:
  """A figure as an inline element."""
  data = base64.b64encode(gate_figures.picture(figure, dpi=140)).decode()
  return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def curves(found: list[dict]) -> list[tuple[str, str]]:
  """Each metric of each task against the step: mean and range of the seeds.

  Args:
    found: results.

  Returns:
    (picture, caption) pairs
  """
  frame = pd.DataFrame(
    dict(cell=r["cell"], task=t, metric=m, step=int(step), value=value)
    for r in found
    for t, by_metric in r["metrics"].items()
    for m, values in by_metric.items()
    for step, value in values.items()
  )
  colors = {c: f"C{i % 10}" for i, c in enumerate(frame["cell"].unique())}
  pictures = []
  for (task, metric), scores in frame.groupby(["task", "metric"]):
    figure, ax = plt.subplots(figsize=(4.2, 2.7), layout="constrained")
    for cell, own in scores.groupby("cell", sort=False):
      by_step = own.groupby("step")["value"]
      # nan where the value of one seed is, so that there is no point.
      known = by_step.apply(lambda v: 1.0 if v.notna().all() else np.nan)
      mean, low, high = by_step.mean(), by_step.min(), by_step.max()
      steps, color = known.index, colors[cell]
      ax.plot(steps, mean * known, ".-", color=color, label=cell)
      ax.fill_between(
        steps, low * known, high * known, color=color, alpha=0.12, linewidth=0
      )
    ax.set_title(f"{task}: {metric}", fontsize=9)
    ax.set_xlabel("training step", fontsize=8)
    ax.tick_params(labelsize=8)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7)
    pictures.append(
      (_image(figure, f"{metric} of {task}"), f"{task}, {metric}")
    )
  return pictures


def gate_pictures(name: str, path: str) -> list[tuple[str, str]]:
  """The gates of one model, and how far its tasks are apart.

  Args:
    name: of the model.
    path: of the .npz of `tools.gates`.

  Returns:
    (picture, caption) pairs

  Raises:
    UserError: for a file that is none of these.
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
  """The page as HTML.

  Args:
    found: results.
    made: from `render.tables`.
    gates: of all models, from `gate_pictures`.
    title: of the page.
    sentences: from `notes.notes`.
  """
  seeds = pd.DataFrame(found).groupby("cell", sort=False)["seed"].nunique()
  protocol = _protocol_table(found)
  there = {name.partition("_")[0] for name in made} | {"curves", "protocol"}
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
    checkpoints=_CHECKPOINTS,
    sentences=sentences,
    curves=curves(found),
    gates=gates,
    protocol=protocol,
    names=(*render.NAMES, *protocol.columns),
    missing=render.MISSING,
  )


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


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  tables.define_flags()
  flags.DEFINE_string("output", "report.html", "The page to write.")
  flags.DEFINE_list("gates", [], "NAME=FILE.npz of tools.gates, ….")
  flags.DEFINE_string("title", "HyperGrid and vanilla T5", "Of the page.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
