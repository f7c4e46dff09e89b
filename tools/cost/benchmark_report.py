"""From the benchmark's measurements to numbers, tables and pictures.

A measurement is a dictionary, as benchmark.json keeps it: one for each group of
models that stepped in turn, with the wall times of each model in order of
rounds, the first model being vanilla T5.
"""

import io
import json
import os
import statistics

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import pandas as pd  # noqa: E402

from hypergrid_mtf import errors  # noqa: E402
from hypergrid_mtf.run import files  # noqa: E402

_GB = 1e9
_LEFT = ("case", "inputs", "model")


def load(paths: list[str]) -> list[dict]:
  """Measurements of earlier runs.

  Args:
    paths: of benchmark.json files.

  Returns:
    their groups, one list

  Raises:
    UserError: for a file that is none.
  """
  groups = []
  for path in paths:
    try:
      with open(path) as f:
        groups += json.load(f)["groups"]
    except OSError as e:
      raise errors.UserError(
        f"--measured={path} cannot be read ({e.strerror})."
      ) from None
    except (ValueError, KeyError, TypeError):
      raise errors.UserError(
        f"--measured={path} is not a benchmark.json of this program."
      ) from None
  return groups


def summarize(models: list[dict], examples: int) -> None:
  """Adds the statistics of a group's times to its models.

  Args:
    models: each with `seconds`, one a round, and `peak_bytes`; the first is
      vanilla.
    examples: examples a step.
  """
  vanilla = models[0]
  for model in models:
    seconds = model["seconds"]
    # Both times of a quotient are of the same round, so that what else the
    # machine does meanwhile touches both.
    ratios = [a / b for a, b in zip(seconds, vanilla["seconds"], strict=True)]
    median = statistics.median(seconds)
    model.update(
      median_seconds=median,
      min_seconds=min(seconds),
      max_seconds=max(seconds),
      examples_per_second=examples / median,
      ratio=statistics.median(ratios),
      min_ratio=min(ratios),
      max_ratio=max(ratios),
      memory_ratio=model["peak_bytes"] / vanilla["peak_bytes"],
    )


def table(groups: list[dict]) -> pd.DataFrame:
  """One row a model of each group, as a person writes numbers.

  Args:
    groups: measurements, summarized.

  Returns:
    a DataFrame of strings: step time in seconds, peak memory in GB (1e9 bytes)
  """
  rows = []
  for group in groups:
    case = group["case"]
    for i, model in enumerate(group["models"]):
      ratio, memory_ratio, ratio_spread = "", "", ""
      if i:
        ratio = f"{model['ratio']:.3f}"
        ratio_spread = f"{model['min_ratio']:.3f}–{model['max_ratio']:.3f}"
        memory_ratio = f"{model['memory_ratio']:.3f}"
      low, high = model["min_seconds"], model["max_seconds"]
      rows.append(
        {
          "case": case["name"],
          "inputs": str(case["inputs"]),
          "model": model["name"],
          "step (s)": f"{model['median_seconds']:.3f}",
          "min–max (s)": f"{low:.3f}–{high:.3f}",
          "examples/s": f"{model['examples_per_second']:.2f}",
          "ratio": ratio,
          "ratio min–max": ratio_spread,
          "peak (GB)": f"{model['peak_bytes'] / _GB:.2f}",
          "memory ratio": memory_ratio,
          "graph ops": f"{model['ops']:,}",
          "build (s)": f"{model['build_seconds']:.1f}",
        }
      )
  return pd.DataFrame(rows)


def to_markdown(frame: pd.DataFrame) -> str:
  """The table in Markdown, numbers to the right."""
  return frame.to_markdown(
    index=False,
    colalign=["left" if c in _LEFT else "right" for c in frame.columns],
    disable_numparse=True,
  )


def profile_markdown(groups: list[dict], top: int = 15) -> str:
  """What the ops of one step of each model took, by kind and by shape.

  Args:
    groups: measurements whose models have a `profile`
      (`benchmark_worker.Model.profile`).
    top: rows of each table.

  Returns:
    Markdown; times in milliseconds
  """
  parts = [
    "One traced step of each model. Times are of the ops' kernels, added up "
    "over all cores; tracing itself costs time, so they are for comparing.\n"
  ]
  for group in groups:
    for model in group["models"]:
      records = pd.DataFrame(model.get("profile", []))
      if records.empty:
        continue
      parts.append(f"## {group['label']}, {model['name']}\n")
      for keys in (["op"], ["op", "shape"]):
        sums = records.groupby(keys)[["count", "seconds"]].sum()
        sums = sums.sort_values("seconds", ascending=False)
        total = sums["seconds"].sum()
        head = sums.head(top).reset_index()
        head["ms"] = [f"{1e3 * s:,.1f}" for s in head["seconds"]]
        head["%"] = [f"{100 * s / total:.1f}" for s in head.pop("seconds")]
        parts.append(
          head.to_markdown(
            index=False,
            colalign=["left"] * len(keys) + ["right"] * 3,
            disable_numparse=True,
          )
          + f"\n\nall {len(sums)} kinds: {1e3 * total:,.1f} ms\n"
        )
  return "\n".join(parts)


def draw(groups: list[dict], output_dir: str, title: str = "") -> list[str]:
  """Draws the ratio to vanilla over what the run has more than one of.

  Args:
    groups: measurements, summarized.
    output_dir: where `ratio_by_grid.png` and `ratio_by_inputs.png` go.
    title: what was measured.

  Returns:
    the paths of the pictures; none for a single grid and a single length
  """
  points = [
    dict(
      model["setting"],
      case=group["case"]["name"],
      inputs=group["case"]["inputs"],
      grid=(model["setting"]["grid_rows"], model["setting"]["grid_cols"]),
      **{k: model[k] for k in ("ratio", "min_ratio", "max_ratio")},
    )
    for group in groups
    for model in group["models"][1:]
  ]
  written = []
  for axis, label in (
    ("grid", "grid (rows x columns)"),
    ("inputs", "input tokens a row"),
  ):
    # Cases have different lengths by default, which does not show growth.
    if len({(p["case"], p[axis]) for p in points}) > len(
      {p["case"] for p in points}
    ):
      path = os.path.join(output_dir, f"ratio_by_{axis}.png")
      _draw(points, axis, label, path, title)
      written.append(path)
  return written


def _draw(
  points: list[dict], axis: str, label: str, path: str, title: str
) -> None:
  others = [
    k
    for k in ("case", "variant", "grid", "contraction", "stacks", "inputs")
    if k != axis
  ]
  # A line's name says only what the lines differ in.
  telling = [k for k in others if len({p[k] for p in points}) > 1] or ["case"]
  lines: dict[tuple, list[dict]] = {}
  for point in points:
    lines.setdefault(tuple(point[k] for k in telling), []).append(point)
  places = sorted(
    {p[axis] for p in points},
    key=lambda v: (v[0] * v[1], v) if axis == "grid" else v,
  )
  figure, ax = plt.subplots(figsize=(7.6, 4.0), layout="constrained")
  for i, (key, line) in enumerate(lines.items()):
    line.sort(key=lambda p: places.index(p[axis]))
    # Side by side, so that the bars of two lines can be told apart.
    shift = 0.06 * (i - (len(lines) - 1) / 2)
    ratios = [p["ratio"] for p in line]
    ax.errorbar(
      [places.index(p[axis]) + shift for p in line],
      ratios,
      yerr=[
        [r - p["min_ratio"] for r, p in zip(ratios, line, strict=True)],
        [p["max_ratio"] - r for r, p in zip(ratios, line, strict=True)],
      ],
      marker="o",
      markersize=4,
      capsize=3,
      linewidth=1.4,
      label=", ".join(
        _text(name, value) for name, value in zip(telling, key, strict=True)
      ),
    )
  ax.axhline(1.0, color="0.5", linewidth=0.8, linestyle="--")
  ax.set_xticks(range(len(places)), [_text("", v) for v in places])
  ax.set_xlabel(label)
  ax.set_ylabel("step time / vanilla T5's")
  ax.set_title(
    f"{title}: median ratio of the rounds; bars: least and greatest".lstrip(
      ": "
    ),
    fontsize=9,
  )
  ax.grid(axis="y", alpha=0.3)
  figure.legend(loc="outside right upper", fontsize=8)
  buffer = io.BytesIO()
  figure.savefig(buffer, dpi=130, format="png")
  plt.close(figure)
  files.write(path, buffer.getvalue())


def _text(name: str, value) -> str:
  if isinstance(value, tuple):
    return "x".join(map(str, value))
  return f"{value} inputs" if name == "inputs" else str(value)
