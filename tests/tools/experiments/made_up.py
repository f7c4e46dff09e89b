"""Made-up results whose numbers are known, for tests."""

from tools.experiments import protocol, result, statistics

COPY, SORT = "embedded_copy_v1", "embedded_sort_v1"
METRIC = "sequence_accuracy"


def one(cell, seed, scores, steps=(10, 20), **changes):
  """A result.

  Args:
    cell: of the table.
    seed: of the run.
    scores: {task: score at each step}.
    steps: of the checkpoints.
    **changes: of what the result says.

  Returns:
    a dictionary as result.load makes it
  """
  return {
    **dict(
      schema=result.SCHEMA,
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
        t: {METRIC: dict(zip(map(str, steps), by, strict=True))}
        for t, by in scores.items()
      },
      hardware=dict(cpu="x", cores=2),
      versions=dict(python="3"),
    ),
    **changes,
  }


def results():
  return [
    one("vanilla", 0, {COPY: (50.0, 40.0), SORT: (20.0, 30.0)}),
    one("vanilla", 1, {COPY: (50.0, 60.0), SORT: (30.0, 30.0)}),
    one("L2", 0, {COPY: (70.0, 80.0), SORT: (50.0, 60.0)}),
    one("L2", 1, {COPY: (80.0, 80.0), SORT: (40.0, 60.0)}),
    one("single", 0, {COPY: (90.0, 90.0)}, name="single/copy"),
    one("single", 0, {SORT: (80.0, 90.0)}, name="single/sort"),
    one("single", 1, {COPY: (100.0, 90.0)}, name="single/copy"),
    one("single", 1, {SORT: (90.0, 100.0)}, name="single/sort"),
  ]


def scores(found):
  """{checkpoint: `statistics.scores`} of results."""
  return {c: statistics.scores(found, c) for c in protocol.CHECKPOINTS}
