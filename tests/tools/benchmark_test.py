"""The benchmark on the smallest model: form and failures, no times."""

import io
import json

import numpy as np
import pytest
from absl import flags

from hypergrid_mtf import errors
from tools import benchmark
from tools.cost import benchmark_cases as cases
from tools.cost import (
  benchmark_group,
  benchmark_report,
  benchmark_worker,
  models,
)

SMALLEST = ("num_layers = 1", "d_model = 16", "d_ff = 32")
L2 = models.Setting("L2", 4, 4)


@pytest.fixture
def parse():
  """Gives the flags of a command line; they are gone after the test."""
  before = set(flags.FLAGS)
  benchmark.define_flags()

  def parse(*arguments):
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
      flags.FLAGS[name].unparse()
    flags.FLAGS(["benchmark", "--size=micro", *arguments])

  yield parse
  for name in set(flags.FLAGS) - before:
    delattr(flags.FLAGS, name)
  flags.FLAGS["gin_param"].unparse()


def _job(case, setting=models.VANILLA, gin_params=SMALLEST):
  return benchmark_worker.Job("micro", case, setting, gin_params=gin_params)


def test_packed_features_are_t5s():
  case = cases.Case("train_packed", 3, 64, 16, examples_per_row=4)
  found = cases.features(case)
  assert set(found) == {
    f"{name}{suffix}"
    for name in ("inputs", "targets")
    for suffix in ("", "_segmentation", "_position")
  }
  for name, length in (("inputs", 64), ("targets", 16)):
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
        assert example[-1] == cases.EOS_ID
        assert (example[:-1] > 2).all()
        np.testing.assert_array_equal(
          position[numbers == i], np.arange(len(example))
        )
  again = cases.features(case)
  assert all((found[name] == again[name]).all() for name in found)


def test_unpacked_features_are_full_rows():
  found = cases.features(cases.Case("train", 2, 8, 4))
  assert {n: a.shape for n, a in found.items()} == {
    "inputs": (2, 8),
    "targets": (2, 4),
  }
  assert (found["inputs"] > 0).all()
  assert set(cases.features(cases.Case("decode", 2, 8, 4))) == {"inputs"}


def test_plan_puts_vanilla_in_every_group(parse):
  parse(
    "--cases=train,decode",
    "--inputs=16,32",
    "--grids=4x4,8x8,16x16,4x4",
    "--together=2",
  )
  groups = benchmark.plan()
  assert [(g.case.name, g.case.inputs) for g in groups] == [
    (name, inputs)
    for name in ("train", "decode")
    for inputs in (16, 32)
    for _ in range(2)
  ]
  names = [[job.setting.name for job in g.jobs] for g in groups[:2]]
  assert names == [["vanilla", "L2-4x4", "L2-8x8"], ["vanilla", "L2-16x16"]]
  assert groups[-1].case.batch == 16 and groups[-1].case.targets == 16


@pytest.mark.parametrize(
  ("arguments", "sentence"),
  [
    (["--size=huge"], "--size=huge is unknown"),
    (["--cases=train,nothing"], "--cases=nothing is unknown"),
    (["--variants=L3"], "--variants=L3 is unknown"),
    (["--variants="], "--variants= is empty"),
    (["--stacks=left"], "--stacks=left is unknown"),
    (["--grids=16"], "--grids=16 is not a grid"),
    (["--grids=16x7"], "does not divide"),
    (["--grids=0x16"], "--grids=0x16 is not a grid"),
    (["--inputs=64,x"], "--inputs=x is not a positive integer"),
    (["--runs=4"], "--runs=4 is too few"),
    (["--cases=train_packed", "--targets=8"], "do not fit"),
    (["--cases=train_packed", "--examples_per_row=1"], "packs nothing"),
    (
      ["--cases=train_packed", "--contractions=weights"],
      "cannot serve train_packed",
    ),
    (["--contractions=sideways"], "contraction"),
    (["--gin_param=d_modle = = 3"], '--gin_param="d_modle = = 3"'),
  ],
)
def test_bad_input_is_one_sentence(parse, arguments, sentence):
  parse(*arguments)
  with pytest.raises(errors.UserError, match=sentence) as caught:
    benchmark.plan()
  assert "\n" not in errors.sentence(caught.value)


def test_decoding_takes_all_its_steps():
  case = cases.Case("decode", 2, 8, 5)
  for setting in (models.VANILLA, L2):
    model = benchmark_worker.Model(_job(case, setting))
    assert model.step() > 0
    picks = [r["count"] for r in model.profile() if r["op"] == "ArgMax"]
    assert sum(picks) == 5  # one greedy choice a step
    model.close()


def test_a_packed_training_step_moves_the_weights():
  case = cases.Case("train_packed", 2, 16, 8, examples_per_row=2)
  model = benchmark_worker.Model(_job(case, L2))
  first = model.run()["loss"]
  for _ in range(3):
    last = model.run()["loss"]
  assert np.isfinite([first, last]).all() and first != last
  assert model.num_ops > 1000 and model.peak > 1e8
  model.close()


def test_a_run_from_flags_to_files(parse, tmp_path, capsys):
  parse(
    *("--cases=train", "--batch=2", "--inputs=8", "--targets=4", "--grids=4x4"),
    *("--quick", "--runs=2", "--warmup=1", "--profile"),
    *(f"--gin_param={p}" for p in SMALLEST),
    f"--output_dir={tmp_path}",
  )
  assert benchmark.main(["benchmark"]) == 0
  measured = json.loads((tmp_path / "benchmark.json").read_text())
  assert measured["hardware"]["cores"] and measured["config"]["runs"] == 2
  (group,) = measured["groups"]
  vanilla, gated = group["models"]
  assert (vanilla["name"], gated["name"]) == ("vanilla", "L2-4x4")
  for model in (vanilla, gated):
    assert len(model["seconds"]) == 2 and len(model["warmup_seconds"]) == 1
    assert model["peak_bytes"] > 1e8
  assert gated["ops"] > vanilla["ops"]
  # Two layers, d_model 16, 4 + 4 cells.
  assert gated["parameters"] - vanilla["parameters"] == 2 * 16 * 8
  table = (tmp_path / "benchmark.md").read_text()
  assert table.strip() in capsys.readouterr().out
  assert "Einsum" in (tmp_path / "profile.md").read_text()
  assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob("*.png"))


def _answers(*requests):
  channel = io.StringIO()
  benchmark_worker.answer(
    io.StringIO("".join(f"{r}\n" for r in requests)), channel
  )
  return [json.loads(line) for line in channel.getvalue().splitlines()]


def test_what_ends_a_worker_is_its_last_answer():
  case = cases.Case("eval", 2, 8, 4)
  (bad,) = _answers(_job(case, models.Setting("L2", 3, 4)).to_json(), "step")
  assert "does not divide" in bad["user_error"]
  (broken,) = _answers('{"no": "job"}', "step")
  assert broken["failure"].startswith("KeyError")


def test_a_worker_that_dies_is_named_with_its_log(tmp_path):
  log = str(tmp_path / "worker.log")
  job = _job(cases.Case("eval", 2, 8, 4))
  with benchmark_group.Worker(job, log) as worker:
    worker._process.kill()
    with pytest.raises(benchmark_group.WorkerError, match="worker.log"):
      worker.build()


def _measurement(inputs, vanilla, gated, case="train"):
  rows = [
    dict(
      name=setting.name,
      setting=vars(setting),
      seconds=seconds,
      peak_bytes=peak,
      ops=1000,
      build_seconds=1.0,
    )
    for setting, seconds, peak in (
      (models.VANILLA, vanilla, 2_000_000_000),
      (L2, gated, 3_000_000_000),
    )
  ]
  benchmark_report.summarize(rows, examples=4)
  case = vars(cases.Case(case, 4, inputs, 64))
  return dict(label=case["name"], case=case, examples=4, models=rows)


def test_ratios_are_of_the_same_round(tmp_path):
  one = _measurement(128, [1.0, 2.0, 4.0], [1.5, 2.2, 4.8])
  model = one["models"][1]
  assert model["ratio"] == pytest.approx(1.2)  # of 1.5, 1.1 and 1.2
  assert model["min_ratio"] == pytest.approx(1.1)
  assert model["max_ratio"] == pytest.approx(1.5)
  assert model["memory_ratio"] == pytest.approx(1.5)
  assert model["examples_per_second"] == pytest.approx(4 / 2.2)
  text = benchmark_report.to_markdown(benchmark_report.table([one]))
  assert "1.100–1.500" in text and "L2-4x4" in text
  assert benchmark_report.draw([one], str(tmp_path)) == []
  decode = _measurement(64, [1.0], [1.1], "decode")
  assert benchmark_report.draw([one, decode], str(tmp_path)) == []
  two = _measurement(256, [1.0, 2.0, 4.0], [1.6, 2.3, 4.9])
  (path,) = benchmark_report.draw([one, two], str(tmp_path), "T5 micro")
  assert path.endswith("ratio_by_inputs.png")
  with open(path, "rb") as f:
    assert f.read(4) == b"\x89PNG"


def test_earlier_runs_are_drawn_together(parse, tmp_path, capsys):
  paths = []
  for i, inputs in enumerate((128, 256)):
    paths.append(tmp_path / f"{i}.json")
    group = _measurement(inputs, [1.0, 2.0], [1.5, 2.2])
    paths[-1].write_text(json.dumps({"groups": [group]}))
  parse(
    f"--measured={','.join(map(str, paths))}", f"--output_dir={tmp_path}/both"
  )
  assert benchmark.main(["benchmark"]) == 0
  assert capsys.readouterr().out.count("L2-4x4") == 2
  assert (tmp_path / "both" / "ratio_by_inputs.png").exists()
  paths[0].write_text("[]")
  with pytest.raises(errors.UserError, match="is not a benchmark.json"):
    benchmark.main(["benchmark"])
