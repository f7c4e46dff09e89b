"""The table and the file of the benchmark, of models that take known times."""

import json

import pytest

from hypergrid_mtf import errors
from tests import program
from tools import serving_benchmark
from tools.serving import benchmark_models


class _Served:
  """A model that takes a second a row; HyperGrid 2 % more."""

  def __init__(self, name, kind, folder, log):
    del kind, folder, log
    self.name = name
    self.load = {"seconds": 1.0}

  def __exit__(self, *unused_exception):
    pass

  def answer(self, texts, tokens):
    assert tokens == 16
    assert {len(text) for text in texts} == {63}
    factor = {"vanilla": 1.0, "L2": 1.02, "Hugging Face": 2.0}[self.name]
    return {
      "seconds": len(texts) * factor,
      "peak_bytes": 10**9,
    }


def test_the_command(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(serving_benchmark, "Served", _Served)
  monkeypatch.setattr(benchmark_models, "write", lambda *_: {})
  monkeypatch.setattr(benchmark_models, "export", lambda _, folder: folder)
  monkeypatch.setattr(benchmark_models, "to_hugging_face", lambda *_: None)
  output = tmp_path / "benchmark.json"
  given = ["--batches=1,8", "--rounds=3", f"--output={output}"]
  program.run("tools.serving_benchmark", given, monkeypatch)
  said = capsys.readouterr().out
  assert "L2 / vanilla: 1.020 (1.02 to 1.02)" in said
  assert "vanilla / Hugging Face: 0.500" in said
  found = json.loads(output.read_text())["batches"]["8"]
  assert found["L2"]["seconds"] == [pytest.approx(8.16)] * 3
  for given, said in (
    ("--size=huge", "--size=huge is unknown"),
    ("--batches=1,x", "--batches=x is not a positive integer"),
    ("--batches=0", "--batches=0 is not a positive integer"),
  ):
    with pytest.raises(errors.UserError, match=said):
      program.run("tools.serving_benchmark", [given], monkeypatch)


def test_a_text_of_so_many_tokens():
  (text,) = serving_benchmark.texts(1, 64)
  assert len(text) == 63  # and its end


def test_what_a_process_took():
  code = "x = b'x' * (300 * 2**20); sum(x[: 2 * 10**7])"
  took = serving_benchmark._timed(["-c", code])
  assert 300 * 2**20 < took["peak_bytes"] < 400 * 2**20
  assert 0 < took["cpu_seconds"] < took["seconds"] + 1
  with pytest.raises(errors.UserError, match="no such thing"):
    serving_benchmark._timed(["-c", "raise ValueError('no such thing')"])
