"""The benchmark on the smallest model: form and failures, no times."""

import dataclasses
import io
import json
import os
import re

import numpy as np
import pytest
from absl import flags

from hypergrid_mtf import errors
from tests import program
from tools.cost import models, stepper, steps, turns, worker
from tools.serving import benchmark_models

NAME = "tools.benchmark"
SMALLEST = ("num_layers = 1", "d_model = 16", "d_ff = 32")
L2 = models.Setting("L2", 4, 4)
SMALL = (
  "--size=micro",
  "--grids=4x4",
  "--batch=2",
  "--inputs=8",
  "--targets=4",
  *(f"--gin_param={p}" for p in SMALLEST),
)


def _job(case, setting=models.VANILLA):
  return steps.make_job("micro", case, setting, gin_params=SMALLEST)


def test_packed_features_are_t5s():
  case = steps.Case("train_packed", 3, 64, 16, examples_per_row=4)
  found = steps.make_features(case)
  assert set(found) == {
    f"{name}{suffix}"
    for name in ("inputs", "targets")
    for suffix in ("", "_segmentation", "_position")
  }
  for name, length in case.lengths.items():
    ids = found[name]
    assert ids.shape == (3, length) and ids.dtype == np.int32
    for row, numbers, position in zip(
      ids,
      found[f"{name}_segmentation"],
      found[f"{name}_position"],
      strict=True,
    ):
      assert ((row == 0) == (numbers == 0)).all()
      for i in range(1, 5):
        example = row[numbers == i]
        assert len(example) >= 2
        assert example[-1] == steps.EOS_ID
        assert (example[:-1] > 2).all()
        np.testing.assert_array_equal(
          position[numbers == i], np.arange(len(example))
        )
  again = steps.make_features(case)
  assert all((found[name] == again[name]).all() for name in found)


def test_unpacked_features_are_full_rows():
  found = steps.make_features(steps.Case("train", 2, 8, 4))
  assert {n: a.shape for n, a in found.items()} == {
    "inputs": (2, 8),
    "targets": (2, 4),
  }
  assert (found["inputs"] > 0).all()
  assert set(steps.make_features(steps.Case("decode", 2, 8, 4))) == {"inputs"}


def test_every_combination_has_a_name_of_its_own():
  compared = models.settings(
    ["vanilla", "L2", "row"],
    grids=["4x4", "8x8", "4x4"],
    stacks=["both", "decoder"],
    kernels=["wo", "wi"],
  )
  names = [m.name for m in compared]
  assert names[0] == "vanilla" and len(set(names)) == len(names) == 17
  assert "row-wi-8x8-decoder_only" in names


@pytest.mark.parametrize(
  ("arguments", "sentence"),
  [
    (["--size=huge"], "--size=huge: value should be one of"),
    (["--cases=train,nothing"], "--cases=nothing is unknown"),
    (["--variants=L3"], "--variants=L3 is unknown"),
    (["--variants="], "--variants= is empty"),
    (["--stacks=left"], "--stacks=left is unknown"),
    (["--grids=16"], "--grids=16 is not a grid"),
    (["--grids=16x7"], "does not divide"),
    (["--inputs=64,x"], "--inputs=x must be a positive integer"),
    (["--batch=0"], "--batch=0 must be a positive integer"),
    (["--cases=train_packed", "--targets=8"], "do not fit"),
    (["--contractions=sideways"], "contraction"),
    (["--gin_param=d_modle = = 3"], '--gin_param="d_modle = = 3"'),
  ],
)
def test_bad_input_is_one_sentence(arguments, sentence, monkeypatch, tmp_path):
  given = ["--size=micro", f"--output_dir={tmp_path}", *arguments]
  with pytest.raises((errors.UserError, flags.Error), match=sentence) as caught:
    program.run(NAME, given, monkeypatch)
  assert "\n" not in errors.sentence(caught.value)


def test_decoding_takes_all_its_steps(tmp_path):
  """And a trace holds every operation."""
  case = steps.Case("decode", 2, 8, 5)
  path = tmp_path / "trace.json"
  for setting in (models.VANILLA, L2):
    model = stepper.Model(_job(case, setting))
    model.run()
    model.trace(str(path))
    model.close()
    events = json.loads(path.read_text())["traceEvents"]
    picks = [e for e in events if e.get("args", {}).get("op") == "ArgMax"]
    assert len(picks) == 5  # one greedy choice a step


def test_a_packed_training_step_moves_the_weights():
  case = steps.Case("train_packed", 2, 16, 8, examples_per_row=2)
  model = stepper.Model(_job(case, L2))
  first = model.run()["loss"]
  for _ in range(3):
    last = model.run()["loss"]
  assert np.isfinite([first, last]).all() and first != last
  model.close()


def test_a_run_from_flags_to_files(tmp_path, monkeypatch, capsys):
  more = ["--cases=train", "--runs=2", "--warmup=1", "--trace"]
  given = [*SMALL, *more, f"--output_dir={tmp_path}"]
  assert program.run(NAME, given, monkeypatch) == 0
  measured = json.loads((tmp_path / "benchmark.json").read_text())
  assert measured["hardware"]["cores"] and measured["config"]["size"] == "micro"
  (group,) = measured["groups"]
  vanilla, gated = group["models"]
  assert (vanilla["name"], gated["name"]) == ("vanilla", "L2-4x4")
  for model in (vanilla, gated):
    assert len(model["seconds"]) == 2
    assert model["peak_bytes"] > 1e8
  assert gated["ops"] > vanilla["ops"]
  # Two layers, d_model 16, 4 + 4 cells.
  assert gated["parameters"] - vanilla["parameters"] == 2 * 16 * 8
  table = (tmp_path / "benchmark.md").read_text()
  assert table.strip() in capsys.readouterr().out
  assert "Einsum" in (tmp_path / "train-2x8x4-L2-4x4.trace.json").read_text()
  assert not list(tmp_path.glob("*.part"))


def test_models_that_serve_take_turns(tmp_path, monkeypatch, capsys):
  """Two batches: the models are made once, and asked for full rows."""
  made, asked = [], []

  def write(folder, size, setting, case):
    os.makedirs(folder)
    made.append((size, setting.name, case.targets))

  def measure(group, *unused):
    asked.append(group)
    names = list(group.requests)
    seconds = {"vanilla": 1.0, "L2-4x4": 1.02, "Hugging Face": 2.0}
    rows = [
      dict(name=n, seconds=[seconds[n]] * 3, peak_bytes=10**9, build_seconds=1)
      for n in names
    ]
    turns.summarize(rows)
    return dict(case=dataclasses.asdict(group.case), models=rows)

  monkeypatch.setattr(benchmark_models, "write", write)
  monkeypatch.setattr(benchmark_models, "export", lambda _: None)
  monkeypatch.setattr(benchmark_models, "to_hugging_face", lambda _: None)
  monkeypatch.setattr(turns, "measure", measure)
  given = ["--size=micro", "--grids=4x4", "--cases=serve", "--batch=1,8"]
  program.run(NAME, [*given, f"--output_dir={tmp_path}"], monkeypatch)
  assert made[0] == ("micro", "vanilla", 16)
  first, second = asked
  assert list(first.requests) == ["vanilla", "Hugging Face", "L2-4x4"]
  texts = [r["texts"] for r in second.requests.values()]
  assert {len(t) for t in texts} == {8}
  assert {len(text) for text in texts[0]} == {63}  # and its end
  said = capsys.readouterr().out
  assert re.search(r"L2-4x4 .*\| +1\.020 \|", said)
  assert re.search(r"Hugging Face .*\| +2\.000 \|", said)


def _answers(*requests):
  channel = io.StringIO()
  lines = "".join(f"{json.dumps(r)}\n" for r in requests)
  worker.answer(io.StringIO(lines), channel)
  return [json.loads(line) for line in channel.getvalue().splitlines()]


def test_what_ends_a_worker_is_its_last_answer():
  case = steps.Case("eval", 2, 8, 4)
  job = dataclasses.asdict(_job(case, models.Setting("L2", 3, 4)))
  (bad,) = _answers({"kind": "step", "job": job}, "step")
  assert "does not divide" in bad["failure"]
  (broken,) = _answers({"no": "job"}, "step")
  assert broken["failure"].startswith("KeyError")


def test_a_worker_that_fails_is_named_with_its_log(tmp_path):
  log = str(tmp_path / "worker.log")
  with pytest.raises(turns.WorkerError, match=r"of L2 failed .*worker\.log"):
    turns.Worker("L2", {"kind": "none"}, log)


def test_ratios_are_of_the_same_round():
  rows = [
    dict(name=name, seconds=seconds, peak_bytes=peak, ops=9, build_seconds=1.0)
    for name, seconds, peak in (
      ("vanilla", [1.0, 2.0, 4.0], 2_000_000_000),
      ("L2", [1.5, 2.2, 4.8], 3_000_000_000),
    )
  ]
  turns.summarize(rows)
  assert rows[1]["ratio"] == pytest.approx(1.2)  # of 1.5, 1.1 and 1.2
  assert rows[1]["ratio_range"] == pytest.approx([1.1, 1.5])
  assert rows[1]["memory_ratio"] == pytest.approx(1.5)
  case = dataclasses.asdict(steps.Case("train", 4, 128, 64))
  text = turns.table_of([dict(case=case, models=rows)])
  assert "1.100–1.500" in text and "L2" in text
