r"""The paper's tables from the results of runs.

  python -m tools.tables --results=runs/embedded/results --output_dir=tables

Reads the JSON files that `tools.sweep` or `tools.results` wrote, and nothing
else. Writes, as Markdown, LaTeX and CSV:

  scores       each task and average: mean, standard deviation, seeds
  published    the averages beside the published ones, with their source
  differences  each model minus the baseline, and the share of the gap to the
               single-task models that it closes, with 95 % intervals
  cost         parameters, time of training

the first three for T5's choice of a checkpoint (the best of each task on the
validation set, which flatters) and for the last one.
"""

import collections
import glob
import json
import math
import os
import re
import statistics

import pandas as pd
from absl import flags

import t5_tasks  # noqa: F401  (registers the tasks)
from hypergrid_mtf import errors
from hypergrid_mtf.launch import console, files, gin_files
from tools import compare, results
from tools.experiments import answers, bootstrap, protocol

FLAGS = flags.FLAGS

MISSING = "—"
# Of a run that was made without --seed.
NO_SEED = -1
# Averages that were published, T5-base. README, "Fidelity", has the sources.
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
# Bindings in which the models of a comparison are meant to differ.
_MEANT = re.compile(
  r"(.*/)?(HyperGrid\..*|make_layer_stack\.layers|MIXTURE_NAME"
  r"|define_mixture\..*)$"
)
_NAMED = 4  # bindings in a sentence


def load(path: str) -> tuple[list[dict], list[str]]:
  """Reads results, and refuses those that do not belong together.

  Args:
    path: a folder of JSON files, or one file.

  Returns:
    (results, a sentence for each file that was skipped)

  Raises:
    UserError: if there are none, or they were made by different protocols, on
      different data, or twice.
  """
  names = (
    sorted(glob.glob(os.path.join(path, "*.json")))
    if os.path.isdir(path)
    else [path]
  )
  found, skipped = [], []
  for name in names:
    try:
      with open(name) as f:
        result = json.load(f)
      if result["schema"] != results.SCHEMA or not result["metrics"]:
        raise KeyError("schema")
    except OSError as e:
      raise errors.UserError(f"{name} cannot be read ({e.strerror}).") from None
    except (ValueError, KeyError, TypeError) as e:
      what = "is damaged" if isinstance(e, ValueError) else "is no result"
      skipped.append(f"{name} {what}: skipped.")
      continue
    result["path"] = name
    if result["seed"] is None:
      result["seed"] = NO_SEED
    found.append(result)
  if not found:
    raise errors.UserError(
      f"--results={path} holds no results: give the folder `results` of a "
      f"sweep. {' '.join(skipped)}".strip()
    )
  _check(found)
  return found, skipped


def _check(found: list[dict]) -> None:
  first = found[0]
  tasks = {}
  models = {}
  for result in found:
    if result["protocol"] != first["protocol"]:
      keys = {**result["protocol"], **first["protocol"]}
      key = next(
        k for k in keys if result["protocol"].get(k) != first["protocol"].get(k)
      )
      raise errors.UserError(
        f"{result['path']} and {first['path']} were evaluated by different "
        f"protocols ({key} is {result['protocol'].get(key)} and "
        f"{first['protocol'].get(key)}): they cannot be in one table."
      )
    for task, data in result["data"].items():
      path, before = tasks.setdefault(task, (result["path"], data))
      if data != before:
        raise errors.UserError(
          f"{result['path']} and {path} were evaluated on different data of "
          f"{task} ({data['examples']} and {before['examples']} examples, or "
          "others): they cannot be in one table."
        )
    for task in result["metrics"]:
      key = result["cell"], result["seed"], task
      if key in models:
        raise errors.UserError(
          f"{result['path']} and {models[key]} are both seed "
          f"{result['seed']} of {result['cell']} on {task}: remove one."
        )
      models[key] = result["path"]
    configs = {
      r["config_hash"]
      for r in found
      if r["cell"] == result["cell"] and r.get("name") == result.get("name")
    }
    if len(configs) > 1:
      raise errors.UserError(
        f"the seeds of {result['cell']} have different configurations: they "
        "cannot be in one table."
      )


def by_model(
  found: list[dict], baseline: str = "vanilla", single: str = "single"
) -> dict[str, dict[int, list[dict]]]:
  """{cell: {seed: its results}}, the baseline first and single tasks last."""
  models = collections.defaultdict(lambda: collections.defaultdict(list))
  for result in sorted(
    found,
    key=lambda r: (
      r["cell"] != baseline,
      r["cell"] == single,
      r["cell"],
      r["seed"],
    ),
  ):
    models[result["cell"]][result["seed"]].append(result)
  return models


def scores(runs: list[dict], checkpoint: str) -> dict[tuple[str, str], float]:
  """Metrics of one model: of one run, or of one run a task.

  Args:
    runs: results of one cell and seed.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    {(task, metric): value}
  """
  found = {}
  for result in runs:
    steps = protocol.chosen_steps(result["metrics"], checkpoint)
    for task, metrics in result["metrics"].items():
      step = str(steps[task])
      for metric, values in metrics.items():
        # A correlation with one answer throughout is no number.
        if not math.isnan(values.get(step, math.nan)):
          found[task, metric] = values[step]
  return found


def _all_scores(models, checkpoint):
  return {
    cell: {seed: scores(runs, checkpoint) for seed, runs in by_seed.items()}
    for cell, by_seed in models.items()
  }


def with_averages(
  table: dict[str, dict[int, dict]],
) -> dict[str, dict[int, dict]]:
  """Adds the averages of those models that have all that any has.

  Args:
    table: {cell: {seed: {(task, metric): value}}}

  Returns:
    the same with (AVERAGE, label) beside
  """
  wanted = {key for s in table.values() for v in s.values() for key in v}
  found = {}
  for cell, by_seed in table.items():
    found[cell] = {}
    for seed, values in by_seed.items():
      found[cell][seed] = dict(values)
      if values.keys() == wanted:
        for label, mean in protocol.averages(values).items():
          found[cell][seed][compare.AVERAGE, label] = mean
  return found


def _mean_text(values: list[float]) -> str:
  if not values:
    return MISSING
  text = f"{statistics.mean(values):.2f}"
  if len(values) > 1:
    text += f" ± {statistics.stdev(values):.2f}"
  return f"{text} ({len(values)})"


def scores_table(models, checkpoint: str) -> pd.DataFrame:
  """Mean ± standard deviation (seeds) of every metric, one column a cell."""
  table = with_averages(_all_scores(models, checkpoint))
  keys = sorted(
    {k for s in table.values() for v in s.values() for k in v},
    key=lambda k: (k[0] == compare.AVERAGE, k),
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
    models: from `by_model`.
    baseline: the cell that sizes are compared with.

  Returns:
    one row a cell
  """

  def size(cell, which):
    runs = next(iter(models[cell].values()))
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
    models: from `by_model`.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    a DataFrame; what was not run, or on other tasks or another size, is missing
  """
  table = with_averages(_all_scores(models, checkpoint))
  rows = []
  for label, what, cell, value in _PUBLISHED:
    ours = [
      v[compare.AVERAGE, label]
      for seed, v in table.get(cell, {}).items()
      if (compare.AVERAGE, label) in v
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
        "difference": (
          f"{statistics.mean(ours) - value:+.2f}" if ours else MISSING
        ),
        "source": _SOURCE,
      }
    )
  return pd.DataFrame(rows)


def differences(
  models, checkpoint: str, baseline: str, single: str, draws: int
) -> list[dict]:
  """Each model minus the baseline, and its share of the gap to single tasks.

  Args:
    models: from `by_model`.
    checkpoint: one of protocol.CHECKPOINTS.
    baseline: the cell to subtract.
    single: the cell of one model a task; it may be absent.
    draws: of the bootstrap.

  Returns:
    records: `cell`, `average`, `seeds`, `difference` (Interval), and where
    `single` is clearly above the baseline, `share` (Interval)
  """
  table = with_averages(_all_scores(models, checkpoint))
  records = []
  if baseline not in table:
    return records
  labels = dict.fromkeys(
    k[1] for v in table[baseline].values() for k in v if k[0] == compare.AVERAGE
  )
  pair = baseline, single
  for label in labels:
    for seeds, cells in _paired(table, label, *pair).items():
      records += _differences(
        models,
        table,
        checkpoint,
        (baseline, single),
        label,
        seeds,
        cells,
        draws,
      )
  return records


def _paired(table, label, baseline, single) -> dict[tuple, list[str]]:
  """{seeds: models that have an average of these, the two others too}."""
  key = compare.AVERAGE, label
  seeds = {
    cell: {s for s, v in by_seed.items() if key in v}
    for cell, by_seed in table.items()
  }
  groups = collections.defaultdict(list)
  for cell in table:
    common = seeds[cell] & seeds[baseline]
    if seeds.get(single):
      common &= seeds[single]
    if cell != baseline and common:
      groups[tuple(sorted(common))].append(cell)
  return groups


def _differences(
  models, table, checkpoint, pair, label, seeds, others, draws
) -> list[dict]:
  """Records of models that have the same seeds."""
  baseline, single = pair
  key = compare.AVERAGE, label
  with_single = any(key in table.get(single, {}).get(s, {}) for s in seeds)
  cells = list(
    dict.fromkeys([baseline, *others, *([single] if with_single else [])])
  )
  kept = {
    cell: {s: _answers(models[cell][s], checkpoint) for s in seeds}
    for cell in cells
  }
  drawn = bootstrap.over_seeds(bootstrap.averages(kept, label, draws))
  mean = {c: statistics.mean(table[c][s][key] for s in seeds) for c in cells}

  def minus(cell, other):
    return bootstrap.interval(
      mean[cell] - mean[other], drawn[cell] - drawn[other]
    )

  gap = minus(single, baseline) if with_single else None
  records = []
  for cell in others:
    record = dict(
      cell=cell,
      average=label,
      seeds=len(seeds),
      difference=minus(cell, baseline),
    )
    # A share of nothing is no number.
    if gap and gap.low > 0 and cell != single:
      record["share"] = bootstrap.interval(
        (mean[cell] - mean[baseline]) / gap.value,
        (drawn[cell] - drawn[baseline]) / (drawn[single] - drawn[baseline]),
      )
    records.append(record)
  return records


def not_drawn(models, checkpoint: str) -> list[str]:
  """Tasks whose examples an interval cannot draw: no answers were kept.

  Args:
    models: from `by_model`.
    checkpoint: one of protocol.CHECKPOINTS.

  Returns:
    names
  """
  return sorted(
    {
      task
      for by_seed in models.values()
      for runs in by_seed.values()
      for task, kept in _answers(runs, checkpoint).items()
      if not kept.units
    }
  )


def _answers(runs: list[dict], checkpoint: str):
  found = {}
  for result in runs:
    steps = protocol.chosen_steps(result["metrics"], checkpoint)
    for task, metrics in result["metrics"].items():
      step = str(steps[task])
      found[task] = answers.Answers(
        task,
        result["predictions"].get(task, {}).get(step, {}),
        {m: values[step] for m, values in metrics.items() if step in values},
      )
  return found


def differences_table(
  records: list[dict], baseline: str, single: str
) -> pd.DataFrame:
  """Records of `differences` as a person reads them."""
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
  """Markdown, what is no name to the right."""
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


def tables(
  found: list[dict], baseline: str, single: str, draws: int
) -> dict[str, pd.DataFrame]:
  """All tables of some results.

  Args:
    found: from `load`.
    baseline: the cell that differences are from.
    single: the cell of one model a task.
    draws: of the bootstrap; 0 leaves the differences out.

  Returns:
    {"scores_best": table, …}
  """
  models = by_model(found, baseline, single)
  made = {"cost": cost_table(models, baseline)}
  for checkpoint in protocol.CHECKPOINTS:
    made[f"scores_{checkpoint}"] = scores_table(models, checkpoint)
    if any("glue" in task for r in found for task in r["metrics"]):
      made[f"published_{checkpoint}"] = published_table(models, checkpoint)
    if draws:
      records = differences(models, checkpoint, baseline, single, draws)
      if records:
        made[f"differences_{checkpoint}"] = differences_table(
          records, baseline, single
        )
  return made


def update(text: str, results_path: str, made: dict[str, pd.DataFrame]) -> str:
  """Puts tables in their places in a document.

  Args:
    text: with places such as `<!-- RESULTS: scores_last -->`, RESULTS being
      the path as it is given to --results; a place ends with `<!-- end -->`.
    results_path: of the results that the tables are of.
    made: from `tables`.

  Returns:
    the document with new tables in these places

  Raises:
    UserError: if there is no place, or one for a table that was not made.
  """

  def table(match):
    name = match[2]
    if name not in made:
      raise errors.UserError(
        f"there is a place for {results_path}: {name}, and the tables are "
        f"{', '.join(made)}."
      )
    return f"{match[1]}\n\n{to_markdown(made[name])}\n\n<!-- end -->"

  return _places(text, results_path).sub(table, text)


def _places(text: str, results_path: str) -> re.Pattern:
  """Matches a place of these results, of which the document has some."""
  path = re.escape(results_path.rstrip("/"))
  place = re.compile(rf"(<!-- {path}/?: (\w+) -->).*?<!-- end -->", re.S)
  if not place.search(text):
    raise errors.UserError(
      f"the document has no place <!-- {results_path}: scores_last -->."
    )
  return place


def other_differences(models, baseline: str) -> list[str]:
  """What a model has different from the baseline, beside gates and tasks.

  Args:
    models: from `by_model`.
    baseline: the cell to compare with.

  Returns:
    a sentence for each such model: its difference is not that of the gates
  """
  configs = {
    cell: [r["config"] for runs in by_seed.values() for r in runs]
    for cell, by_seed in models.items()
  }
  base = configs.get(baseline, [{}])[0]
  sentences = []
  for cell, by_run in configs.items():
    found = {}
    for config in by_run:
      for key in config.keys() & base.keys():
        if config[key] != base[key] and not _MEANT.match(key):
          found[key] = f"{key} is {config[key]}, not {base[key]}"
    if found:
      some = [found[key] for key in sorted(found)[:_NAMED]]
      if len(found) > _NAMED:
        some.append(f"and {len(found) - _NAMED} more")
      sentences.append(
        f"{cell} differs from {baseline} in more than gates and tasks: "
        f"{'; '.join(some)}."
      )
  return sentences


def notes(
  found: list[dict], made: dict[str, pd.DataFrame], baseline: str
) -> list[str]:
  """What a reader of the tables should know.

  Args:
    found: results.
    made: from `tables`.
    baseline: the cell that differences are from.

  Returns:
    sentences
  """
  models = by_model(found)
  sentences = other_differences(models, baseline)
  for checkpoint in protocol.CHECKPOINTS:
    if f"differences_{checkpoint}" not in made:
      continue
    tasks = not_drawn(models, checkpoint)
    if tasks:
      sentences.append(
        f"differences_{checkpoint}: no answers were kept from which the "
        f"metrics of {', '.join(tasks)} follow, so the intervals are over the "
        "examples of the other tasks, and seeds."
      )
  return sentences


def _read(document: str) -> str:
  if not os.path.isfile(document):
    raise errors.UserError(f"--update={document} is no file.")
  with open(document) as f:
    return f.read()


def main(argv) -> None:
  """Prints and writes the tables.

  Args:
    argv: unused.
  """
  del argv
  files.check_output(
    os.path.join(FLAGS.output_dir, "scores.md"), "--output_dir"
  )
  if FLAGS.update:
    _places(_read(FLAGS.update), FLAGS.results)
  gin_files.import_modules(FLAGS.module_import)
  found, skipped = load(FLAGS.results)
  for sentence in skipped:
    console.say(sentence)
  if FLAGS.baseline not in {r["cell"] for r in found}:
    console.say(f"--baseline={FLAGS.baseline} is not there: no differences.")
  made = tables(found, FLAGS.baseline, FLAGS.single, FLAGS.draws)
  for sentence in notes(found, made, FLAGS.baseline):
    console.say(sentence)
  for name, frame in made.items():
    console.say(f"\n{name}\n\n{to_markdown(frame)}")
    write(frame, os.path.join(FLAGS.output_dir, name))
  console.say(f"\nwrote {len(made)} tables to {FLAGS.output_dir}")
  if FLAGS.update:
    text = update(_read(FLAGS.update), FLAGS.results, made)
    files.write(FLAGS.update, text)
    console.say(f"updated {FLAGS.update}")


def define_flags() -> None:
  """Not at import: other programs import this module and have flags too."""
  flags.DEFINE_string("results", None, "A folder of results, or one result.")
  flags.DEFINE_string("output_dir", "tables", "Where the tables go.")
  flags.DEFINE_string("baseline", "vanilla", "The cell to compare with.")
  flags.DEFINE_string("single", "single", "The cell of one model a task.")
  flags.DEFINE_integer(
    "draws", 1000, "Of the bootstrap; 0: no differences.", lower_bound=0
  )
  flags.DEFINE_string("update", None, "A document to put the tables into.")
  flags.mark_flag_as_required("results")


if __name__ == "__main__":
  define_flags()
  console.run(main)
