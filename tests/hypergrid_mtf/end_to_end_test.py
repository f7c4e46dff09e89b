"""Every mode of the command line, one after the other, on a nano model."""

import csv
import glob
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from tests import command

INPUTS = ["reverse: abcd", "copy: abcd", "rot: fghij"]
SHORT = "--gin_param=run.batch_size = ('sequences_per_batch', 4)"
TEN = "--gin_param=mesh_eval_dataset_fn.num_eval_examples = 10"
# Of these the folder alone says which model it is.
RECORDED = ("best", "beam", "score_dataset", "export_score")


def _modes(folder):
  last = "--gin_param=run.eval_checkpoint_step = -1"
  infer = [
    "--gin_file=infer.gin",
    "--gin_param=infer_checkpoint_step = -1",
    f"--gin_param=input_filename = '{folder}/inputs'",
    SHORT,
  ]
  train = [
    "--seed=1",
    "--gin_param=dropout_rate = 0.1",
    "--gin_param=run.train_steps = 4",
    "--gin_param=run.save_checkpoints_steps = 2",
    # Reading eight tasks takes longer than these steps; "resume" reads all.
    "--gin_param=MIXTURE_NAME = 'two_tasks'",
    "--gin_param=t5_tasks.mixtures.define_mixture.name = 'two_tasks'",
    "--gin_param=t5_tasks.mixtures.define_mixture.tasks = "
    "['embedded_copy_v1', 'embedded_rot_v1']",
  ]
  return {
    "train": train,
    # In two parts: to step 2, and on from there.
    "again": [
      f"--model_dir={folder}/again",
      *train,
      "--gin_param=run.train_steps = 2",
      "--gin_param=run.total_run_steps = 4",
    ],
    "again_on": [
      f"--model_dir={folder}/again",
      *train,
      "--evaluate",
      "--patience=9",
      TEN,
    ],
    # Resumes from step 4, on packed rows.
    "resume": [
      "--gin_param=run.train_steps = 6",
      "--gin_param=mesh_train_dataset_fn.pack = True",
    ],
    "eval": [
      "--gin_file=experiments/local_eval.gin",
      TEN,
    ],
    "best": [
      f"--model_dir={folder}/again/best",
      "--gin_file=experiments/local_eval.gin",
      TEN,
    ],
    "perplexity_eval": [
      "--gin_file=perplexity_eval.gin",
      "--gin_param=run.dataset_split = 'validation'",
      "--gin_param=run.perplexity_eval_steps = 1",
      "--gin_param=MIXTURE_NAME = 'embedded_copy_v1'",
      last,
    ],
    "infer": [*infer, f"--gin_param=output_filename = '{folder}/outputs'"],
    "beam": [
      *infer,
      "--gin_file=beam_search.gin",
      f"--gin_param=output_filename = '{folder}/beam'",
    ],
    "score": [
      "--gin_file=score_from_file.gin",
      f"--gin_param=inputs_filename = '{folder}/inputs'",
      f"--gin_param=targets_filename = '{folder}/targets'",
      f"--gin_param=scores_filename = '{folder}/scores'",
      last,
      SHORT,
    ],
    "score_dataset": [
      "--gin_file=score_from_task.gin",
      f"--gin_param=scores_filename = '{folder}/task'",
      "--gin_param=MIXTURE_NAME = 'embedded_copy_v1'",
      "--gin_param=mesh_eval_dataset_fn.num_eval_examples = 5",
      SHORT,
    ],
    "export": [
      "--gin_param=run.mode = 'export_infer'",
      f"--gin_param=run.export_path = '{folder}/export'",
      SHORT,
    ],
    "export_score": [
      "--gin_param=run.mode = 'export_score'",
      f"--gin_param=run.export_path = '{folder}/export_score'",
      SHORT,
    ],
    # Last, because flags stay set from one run to the next.
    "dry": [f"--model_dir={folder}/dry", "--dry_run"],
  }


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  # With the mark of some editors in front, and a blank line at the end.
  (folder / "inputs").write_text("\ufeff" + "\n".join(INPUTS) + "\n\n")
  (folder / "targets").write_text("dcba\nabcd\nghija\n\n")
  files = [
    "--gin_file=models/nano.gin",
    "--gin_file=hypergrid/L2.gin",
    "--gin_file=experiments/embedded.gin",
  ]
  said = command.run(
    *(
      [
        f"--model_dir={folder}/model",
        *([] if name in RECORDED else files),
        *more,
      ]
      for name, more in _modes(folder).items()
    )
  )
  return folder, said.splitlines()


def test_training_saves_and_resumes(done):
  folder, _ = done
  steps = {
    int(p.split("-")[-1].split(".")[0])
    for p in glob.glob(f"{folder}/model/model.ckpt-*.index")
  }
  assert {2, 4, 6} <= steps
  assert (folder / "model" / "operative_config.gin").exists()
  assert glob.glob(f"{folder}/model/events.out.tfevents.*")


def test_two_runs_of_one_seed_end_at_the_same_weights(done):
  """Also if one was interrupted: data and dropout go on in their order."""
  folder, lines = done
  one, other = (
    tf.train.load_checkpoint(f"{folder}/{name}/model.ckpt-4")
    for name in ("model", "again")
  )
  names = one.get_variable_to_shape_map()
  assert any("_slot_" in n for n in names)  # the optimizer's too
  assert "skipping the 2 batches" in "".join(lines)
  for name in names:
    np.testing.assert_array_equal(
      one.get_tensor(name), other.get_tensor(name), name
    )


def test_a_dry_run_trains_one_step_and_leaves_nothing(done):
  folder, lines = done
  (line,) = (n for n in lines if n.startswith("train: one step with one layer"))
  assert line.endswith("on this machine, went well")
  assert [path.name for path in (folder / "dry").iterdir()] == ["in_use.lock"]


def test_a_step_is_counted_after_the_counter_is_read(done):
  folder, _ = done
  text = (folder / "model" / "graph.pbtxt").read_text()
  nodes = text_format.Parse(text, tf.compat.v1.GraphDef()).node
  (count,) = (
    n
    for n in nodes
    if n.op == "AssignAddVariableOp" and n.input[0] == "global_step"
  )
  reads = {
    f"^{n.name}"
    for n in nodes
    if n.op == "ReadVariableOp"
    and n.input[0] == "global_step"
    and f"^{count.name}" not in n.input
  }
  assert reads and reads <= set(count.input)


def test_evaluation_prints_one_line_a_task_and_metric(done):
  folder, lines = done
  metrics = [line.split() for line in lines if line.startswith("step 6 ")]
  tasks = {m[2] for m in metrics if m[3] == "accuracy"}
  assert len(tasks) == 8 and all(t.startswith("embedded_") for t in tasks)
  assert any("neg_log_perplexity" in m for m in metrics)
  predictions = glob.glob(f"{folder}/model/validation_eval/*_6_predictions")
  assert len(predictions) == 8


def test_an_evaluation_leaves_what_was_asked_and_answered_as_text(done):
  folder, _ = done
  results = folder / "model/validation_eval"
  rows = (results / "embedded_copy_v1-000006.jsonl").read_text().splitlines()
  rows = [json.loads(row) for row in rows]
  inputs = [row["input"]["inputs_pretokenized"] for row in rows]
  assert len(rows) == 10 and all(text.startswith("copy: ") for text in inputs)
  written = (results / "embedded_copy_v1_inputs").read_text().splitlines()
  assert written == inputs
  answers = (results / "embedded_copy_v1_6_predictions").read_text()
  assert [row["prediction"] for row in rows] == answers.split("\n")[:-1]


def test_a_training_evaluates_its_checkpoints_and_keeps_the_best(done):
  folder, lines = done
  again = folder / "again"
  best = json.loads((again / "best.json").read_text())
  assert [step for step, _ in best["evaluations"]] == [2, 4]
  assert best["average"] == max(value for _, value in best["evaluations"])
  assert set(best["metrics"]) == {"embedded_copy_v1", "embedded_rot_v1"}
  step = best["step"]
  assert (again / f"best/model.ckpt-{step}.index").exists()
  # The folder is a model of its own, and gives the same answers.
  rows = csv.DictReader((again / "best/validation_eval/metrics.csv").open())
  found = {}
  for row in rows:
    assert row["step"] == str(step)
    found.setdefault(row["task"], {})[row["metric"]] = float(row["value"])
  assert found == {
    task: {name: pytest.approx(v, rel=1e-3) for name, v in metrics.items()}
    for task, metrics in best["metrics"].items()
  }
  (line, *_) = (n for n in lines if n.startswith("trained 2 steps in "))
  assert line.endswith(" parameters") and "steps a second" in line


@pytest.mark.parametrize("name", ["outputs", "beam"])
def test_inference_writes_text(done, name):
  folder, _ = done
  *text, end = (folder / f"{name}-6").read_text().split("\n")
  assert len(text) == len(INPUTS) + 1 and end == ""
  assert not any(line.startswith("b'") for line in text)


def test_scoring_writes_one_score_a_target(done):
  folder, lines = done
  for name, count in (("scores", 4), ("task", 5)):
    scores = [float(s) for s in (folder / f"{name}.scores").read_text().split()]
    assert len(scores) == count and all(s < 0 for s in scores)
    targets = (folder / f"{name}.targets").read_text().split("\n")[:-1]
    lengths = (folder / f"{name}.lengths").read_text().split()
    # With the end of the sequence.
    assert [int(n) for n in lengths] == [len(t) + 1 for t in targets]
  targets = (folder / "scores.targets").read_text()
  assert targets == "dcba\nabcd\nghija\n\n"
  assert (
    "run.eval_checkpoint_step is not given: the last checkpoint is scored"
    in lines
  )


def test_the_saved_models_answer_as_the_modes_do(done):
  folder, lines = done
  paths = [glob.glob(f"{folder}/{n}/*")[0] for n in ("export", "export_score")]
  for path in paths:
    assert any(
      f"{path}, which takes at most 4 strings at once" in line for line in lines
    )
  code = (
    "import sys, json, tensorflow as tf, tensorflow_text\n"
    "infer, score = (tf.saved_model.load(p).signatures['serving_default']\n"
    "                for p in sys.argv[1:3])\n"
    "inputs = tf.constant(json.loads(sys.argv[3]))\n"
    "out = infer(inputs=inputs)['outputs']\n"
    "print(json.dumps([o.decode() for o in out.numpy()]))\n"
    "one = score(inputs=inputs[:1], targets=tf.constant(['dcba']))\n"
    "print(json.dumps([one['scores'].numpy().tolist(),\n"
    "                  [t.decode() for t in one['targets'].numpy()]]))\n"
  )
  result = subprocess.run(
    [sys.executable, "-c", code, *paths, json.dumps(INPUTS)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr[-3000:]
  answers, (scores, targets) = map(json.loads, result.stdout.splitlines()[-2:])
  written = (folder / "outputs-6").read_text().split("\n")
  assert answers == written[: len(INPUTS)]
  first = float((folder / "scores.scores").read_text().split()[0])
  assert targets == ["dcba"] and scores == [pytest.approx(first, rel=1e-4)]
