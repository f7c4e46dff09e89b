"""Made-up results whose numbers are known, for tests."""

from tools.experiments.result import SCHEMA

COPY, SORT = "embedded_copy_v1", "embedded_sort_v1"


def bits(share, n=200):
  return "".join("1" if i < share * n else "0" for i in range(n))


def result(cell, seed, scores, steps=(10, 20), **changes):
  """A result whose tasks are right on a share of their examples.

  Args:
    cell: of the table.
    seed: of the run.
    scores: {task: share at each step}.
    steps: of the checkpoints.
    **changes: of what the result says.

  Returns:
    a dictionary as results.collect makes it
  """
  return {
    **dict(
      schema=SCHEMA,
      cell=cell,
      seed=seed,
      name=cell,
      config={"d_model": "64"},
      config_hash="c",
      protocol={"run.dataset_split": "validation"},
      data={t: dict(examples=200, hash="h") for t in scores},
      steps=steps[-1],
      training_seconds=60.0,
      parameters=dict(total=1000, beside_embedding=900),
      metrics={
        t: {
          "sequence_accuracy": {
            str(s): 100 * v for s, v in zip(steps, by, strict=False)
          }
        }
        for t, by in scores.items()
      },
      predictions={
        t: {
          str(s): {"correct": bits(v)} for s, v in zip(steps, by, strict=True)
        }
        for t, by in scores.items()
      },
      hardware=dict(cpu="x", cores=2),
      versions=dict(python="3"),
    ),
    **changes,
  }


def results():
  return [
    result("vanilla", 0, {COPY: (0.5, 0.4), SORT: (0.2, 0.3)}),
    result("vanilla", 1, {COPY: (0.5, 0.6), SORT: (0.3, 0.3)}),
    result("L2", 0, {COPY: (0.7, 0.8), SORT: (0.5, 0.6)}),
    result("L2", 1, {COPY: (0.8, 0.8), SORT: (0.4, 0.6)}),
    result("single", 0, {COPY: (0.9, 0.9)}, name="single/copy"),
    result("single", 0, {SORT: (0.8, 0.9)}, name="single/sort"),
    result("single", 1, {COPY: (1.0, 0.9)}, name="single/copy"),
    result("single", 1, {SORT: (0.9, 1.0)}, name="single/sort"),
  ]
