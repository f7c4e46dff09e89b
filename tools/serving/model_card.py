"""The model card of a plain T5: the README.md of its folder on the Hub.

It says only what the training's folder says.
"""

import math
import os

import huggingface_hub
import jinja2

from hypergrid_mtf import __version__, trained, weights
from hypergrid_mtf.run import best, files, records, request
from t5_tasks import task_tokens
from tools.experiments import evaluation

FILE = "README.md"
FOLD = "fold.json"  # of tools.fold
_TEMPLATE = "model_card.md.jinja"
_TASK = "text2text-generation"


def describe_training(source: trained.Trained) -> dict:
  """What a model's folder says about its training and checkpoint.

  Returns:
    "data": {task: source and preprocessors}, "start": the initial checkpoint or
    None, and "metrics": {task: {metric: value}}
  """
  folder, step = source.folder.rstrip("/"), source.step
  kept = records.read_data(folder)
  metrics = evaluation.read_step(folder, step)
  if not metrics and os.path.basename(folder) == best.FOLDER:
    found = best.read(os.path.dirname(folder))
    metrics = found["metrics"] if found.get("step") == step else {}
  start = files.read_json(os.path.join(folder, request.WARM_START))
  return dict(
    data={task.name: kept.get(f"task {task.name}") for task in source.tasks},
    start=start.get("checkpoint"),
    metrics=metrics,
  )


def make_text(
  source: trained.Trained,
  values: weights.Weights,
  lengths: dict[str, int],
  name: str,
) -> str:
  """The card as Markdown, after the Hub's YAML head."""
  fold = files.read_json(os.path.join(source.folder, FOLD))
  own = describe_training(source)
  training = fold.get("training") or own
  start = training["start"]
  tasks = list(own["data"]) + fold.get("tasks_of_the_same_gates", [])
  metrics = own["metrics"] or training["metrics"]
  # Without arguments, which may be paths of this machine.
  data = {
    task: [part.partition("(")[0] for part in text.split(" > ")]
    for task, text in training["data"].items()
    if text
  }
  scores = [
    huggingface_hub.EvalResult(
      task_type=_TASK,
      dataset_type=data.get(task, [task])[0],
      dataset_name=task,
      dataset_split="validation",
      metric_type=metric,
      metric_value=round(value, 2),
    )
    for task in tasks
    for metric, value in metrics.get(task, {}).items()
    if value is not None and math.isfinite(value)
  ]
  head = huggingface_hub.ModelCardData(
    model_name=name,
    library_name="transformers",
    pipeline_tag=_TASK,
    tags=["t5", "hypergrid"] if fold.get("gates") else ["t5"],
    eval_results=scores,
  )
  token, text = fold.get("token"), ""
  if token is not None:
    text = task_tokens.token_text(source.vocabularies["inputs"], token)
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(os.path.dirname(__file__)),
    trim_blocks=True,
    keep_trailing_newline=True,
  )
  return environment.get_template(_TEMPLATE).render(
    head=head.to_yaml(),
    name=name,
    version=__version__,
    size=weights.describe_size(values),
    step=source.step,
    start=start if "://" in (start or "") else os.path.basename(start or ""),
    tasks=tasks,
    lengths=lengths,
    fold=fold,
    token=token,
    text=text,
    data=data,
    scores=scores,
    is_of_gated=not own["metrics"],
  )
