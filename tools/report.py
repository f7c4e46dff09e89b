r"""One self-contained HTML page of an experiment, to read or to print.

  python -m tools.report --results=runs/embedded/results --output=report.html \
    --gates=L2=runs/embedded/runs/L2/seed0/gates.npz

The tables of `tools.tables`; every metric against the training step; what the
models cost; and, from the files of `tools.gates`, the gates of each task and
layer with the distances between tasks. No network is needed to read it.
"""

import base64
import collections
import datetime
import io
import os

import jinja2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from absl import flags

from hypergrid_mtf import errors
from hypergrid_mtf.run import console, files, gin_files
from tools import tables
from tools.experiments import gate_figures, load, notes, render

FLAGS = flags.FLAGS

_TEMPLATE = "report.html.jinja"


def _image(figure, alt: str) -> str:
  """A figure as an inline element."""
  buffer = io.BytesIO()
  figure.savefig(buffer, format="png", dpi=140)
  plt.close(figure)
  data = base64.b64encode(buffer.getvalue()).decode()
  return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def curves(found: list[dict]) -> list[tuple[str, str]]:
  """Each metric of each task against the step: mean and range of the seeds.

  Args:
    found: results.

  Returns:
    (picture, caption) pairs
  """
  lines: dict = collections.defaultdict(lambda: collections.defaultdict(dict))
  for result in found:
    for task, metrics in result["metrics"].items():
      for metric, values in metrics.items():
        for step, value in values.items():
          by_step = lines[task, metric][result["cell"]]
          by_step.setdefault(int(step), []).append(value)
  cells = list(dict.fromkeys(r["cell"] for r in found))
  colors = {c: plt.get_cmap("tab10")(i % 10) for i, c in enumerate(cells)}
  pictures = []
  for (task, metric), by_cell in sorted(lines.items()):
    figure, ax = plt.subplots(figsize=(4.2, 2.7), layout="constrained")
    for cell, by_step in by_cell.items():
      steps = sorted(by_step)
      ax.plot(
        steps,
        [np.mean(by_step[s]) for s in steps],
        marker="o",
        markersize=3,
        color=colors[cell],
        label=cell,
      )
      ax.fill_between(
        steps,
        [np.min(by_step[s]) for s in steps],  # nan if one is, as the mean
        [np.max(by_step[s]) for s in steps],
        color=colors[cell],
        alpha=0.12,
        linewidth=0,
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
  try:
    with np.load(path) as f:
      arrays = {key: f[key] for key in f.files}
  except (OSError, ValueError) as e:
    raise errors.UserError(
      f"--gates={name}={path} cannot be read: {errors.sentence(e)}"
    ) from None
  by_task: dict = collections.defaultdict(dict)
  for key, gate in arrays.items():
    task, layer = key.split("/", 1)
    by_task[task][layer] = gate
  pictures = [
    (
      _image(gate_figures.figure(by_task), f"gates of {name}"),
      f"{name}: mean gate of each task (rows) in each layer (columns).",
    )
  ]
  distances = gate_figures.distances(by_task)
  pictures.append(
    (
      _image(
        gate_figures.distance_figure(distances, list(by_task)),
        f"distances of {name}",
      ),
      f"{name}: mean absolute difference of two tasks' gates, layer by layer.",
    )
  )
  return pictures


def _models_text(found) -> str:
  models = load.by_model(found)
  return ", ".join(
    f"{cell} ({len(by_seed)} seed{'s' if len(by_seed) > 1 else ''})"
    for cell, by_seed in models.items()
  )


def _protocol_table(found) -> pd.DataFrame:
  first = found[0]
  rows = {**first["protocol"]}
  for key in ("cpu", "cores"):
    rows[key] = ", ".join(sorted({str(r["hardware"][key]) for r in found}))
  for key in first["versions"]:
    rows[key] = ", ".join(sorted({r["versions"][key] for r in found}))
  for task in sorted({t for r in found for t in r["data"]}):
    data = next(r["data"][task] for r in found if task in r["data"])
    rows[f"data of {task}"] = f"{data['examples']} examples ({data['hash']})"
  return pd.DataFrame({"protocol": list(rows), "": list(rows.values())})


def page(
  found: list[dict],
  made: dict[str, pd.DataFrame],
  gates: list[tuple[str, str]],
  title: str,
  sentences: list[str],
) -> str:
  """The page.

  Args:
    found: results.
    made: from `render.tables`.
    gates: of all models, from `gate_pictures`.
    title: of the page.
    sentences: from `notes.notes`.

  Returns:
    HTML
  """
  sections = []

  def section(id_, name, text=(), frames=(), figures=(), layout=""):
    sections.append(
      dict(
        id=id_,
        name=name,
        text=text,
        tables=frames,
        figures=figures,
        layout=layout,
      )
    )

  headings = {
    "best": "Best checkpoint of each task (T5's protocol; it flatters, being "
    "chosen on the same validation set)",
    "last": "Last checkpoint",
  }
  for kind, name in (
    ("scores", "Scores"),
    ("differences", "Differences"),
    ("published", "Published averages"),
  ):
    frames = [
      (text, made[f"{kind}_{at}"])
      for at, text in headings.items()
      if f"{kind}_{at}" in made
    ]
    if frames:
      text = {
        "scores": ["Mean ± standard deviation (number of seeds)."],
        "differences": [
          "95 % intervals over seeds (Student's t) and examples (jackknife), "
          "both paired; of a share, Fieller's. A share is given where the "
          "single-task models are clearly above the baseline.",
          *sentences,
        ],
      }.get(kind, [])
      section(kind, name, text, frames)
  section(
    "cost",
    "Parameters and cost",
    ["Training alone, without start and evaluation; several models: the sum."],
    [("", made["cost"])],
  )
  section(
    "curves",
    "Metrics against steps",
    [
      "Mean over seeds; the band goes from the least to the greatest. A step "
      "at which a seed has nan has no point."
    ],
    figures=curves(found),
    layout="grid",
  )
  if gates:
    section("gates", "Gates", figures=gates)
  section(
    "protocol", "Protocol and machine", frames=[("", _protocol_table(found))]
  )
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(os.path.dirname(__file__)),
    autoescape=True,
    trim_blocks=True,
  )
  return environment.get_template(_TEMPLATE).render(
    title=title,
    runs=len(found),
    models=_models_text(found),
    date=datetime.date.today().isoformat(),
    contents=[(s["id"], s["name"]) for s in sections],
    sections=sections,
    names=(*render.NAMES, *_protocol_table(found).columns),
    missing=render.MISSING,
    zip=zip,
  )


def main(argv) -> None:
  """Writes the page.

  Args:
    argv: unused.
  """
  del argv
  files.check_output(FLAGS.output)
  gates = dict(g.split("=", 1) for g in FLAGS.gates if "=" in g)
  if len(gates) != len(FLAGS.gates):
    raise errors.UserError(
      f"--gates={','.join(FLAGS.gates)}: give NAME=FILE.npz, each name once."
    )
  pictures = [p for g in gates.items() for p in gate_pictures(*g)]
  gin_files.import_modules(FLAGS.module_import)
  found, skipped = load.load(FLAGS.results)
  for sentence in skipped:
    console.say(sentence)
  made = render.tables(found, FLAGS.baseline, FLAGS.single, FLAGS.differences)
  sentences = notes.notes(found, made, FLAGS.baseline, FLAGS.single)
  for sentence in sentences:
    console.say(sentence)
  files.write(FLAGS.output, page(found, made, pictures, FLAGS.title, sentences))
  console.say(f"wrote {FLAGS.output}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  tables.define_flags()
  flags.DEFINE_string("output", "report.html", "The page to write.")
  flags.DEFINE_list("gates", [], "NAME=FILE.npz of tools.gates, ….")
  flags.DEFINE_string("title", "HyperGrid beside vanilla T5", "Of the page.")


if __name__ == "__main__":
  define_flags()
  console.run(main)
