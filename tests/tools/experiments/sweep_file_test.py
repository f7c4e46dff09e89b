"""The files of sweeps, and what they name."""

import collections
import os
import re
import shlex

import gin
import pytest
import seqio

from hypergrid_mtf import errors
from hypergrid_mtf.run import config
from t5_tasks import mixtures
from tools.experiments import sweep_file

SMALL = """
# two cells
set: STEPS=4
train: --gin_file=models/micro.gin --gin_param="run.train_steps = $STEPS"
eval: --gin_file=experiments/local_eval.gin
vanilla: --gin_file=hypergrid/vanilla.gin
L2-$N for N in 4 8: --gin_file=hypergrid/L2.gin \\
  --gin_param="HyperGrid.grid_rows = $N"
single/$TASK for TASK in a b: --gin_param="MIXTURE_NAME = '$TASK'"
"""


def parse(text=SMALL, seeds=(0, 1), **given):
  return sweep_file.parse(text, "x.sweep", list(seeds), given)


def test_lines_become_runs():
  runs = parse()
  names = ["vanilla", "L2-4", "L2-8", "single/a", "single/b"]
  assert [(r.seed, r.name) for r in runs] == [
    (s, n) for s in (0, 1) for n in names
  ]
  assert [r.cell for r in runs[:5]] == [*names[:3], "single", "single"]
  assert runs[1].flags == (
    "--gin_file=models/micro.gin",
    "--gin_param=run.train_steps = 4",
    "--gin_file=hypergrid/L2.gin",
    "--gin_param=HyperGrid.grid_rows = 4",
  )
  assert runs[1].eval_flags == ("--gin_file=experiments/local_eval.gin",)
  assert "run.train_steps = 9" in parse(STEPS="9")[0].flags[1]
  assert len({r.label for r in runs}) == len(runs)


@pytest.mark.parametrize(
  ("text", "sentence"),
  [
    ("vanilla --x=1", "line 1: .* is not a line of a sweep"),
    ("a: --x=1\na: --x=2", "line 2: 'a' is defined twice"),
    ("a: x=1", "'x=1' is not a flag"),
    ("a: --x='1", "line 1: No closing quotation"),
    ("a: --x=$DATA", r"\$DATA is not defined: give it with --set=DATA=TEXT"),
    ("set: A", "'A' is not WORD=TEXT"),
    ("# nothing", "names no model"),
  ],
)
def test_a_line_that_is_none_is_named(text, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    parse(text)


def test_a_line_after_one_that_goes_on_has_its_own_number():
  with pytest.raises(errors.UserError, match="line 4: 'y' is not a flag"):
    parse("a: --x=1 \\\n  --y=2 \\\n  --z=\x85\u2028\nb: y")
  (run,) = parse("a: --x='\u2028\f' \\\n --y", seeds=[0])
  assert run.flags == ("--x=\u2028\f", "--y")


def _of_the_project(name, **given):
  path = sweep_file.find(name)
  words = given or dict(DATA="d", VOCABULARY="v")
  return sweep_file.parse(sweep_file.read(path), name, [0], words)


def _command(name) -> dict[str, list[str]]:
  """The flags of the command in the head of a sweep, as a shell gives them."""
  text = sweep_file.read(sweep_file.find(name)).replace("\\\n#", " ")
  (line,) = re.findall(
    r"^# (?:[A-Z_]+=\S+\s+)*(python -m tools\.sweep .*)$", text, re.M
  )
  found = collections.defaultdict(list)
  for flag in shlex.split(line)[3:]:
    key, value = flag.split("=", 1)
    found[key].append(value)
  return found


def _parse(flags) -> None:
  given = [f.split("=", 1) for f in flags]
  config.parse_files(
    [v for k, v in given if k == "--gin_file"],
    [v for k, v in given if k == "--gin_param"],
    skip_unknown=True,
  )


@pytest.fixture(autouse=True)
def no_configuration_after():
  yield
  gin.clear_config()


@pytest.mark.parametrize("name", sorted(os.listdir(sweep_file.SWEEPS)))
def test_every_sweep_of_the_project_reads_by_its_own_command(name):
  command = _command(name)
  assert command["--sweep"] == [name] and command["--output_dir"]
  runs = _of_the_project(
    name, **dict(w.split("=", 1) for w in command["--set"])
  )
  assert {"vanilla", "L2", "GG"} <= {r.cell for r in runs}
  common = sweep_file.split_flags(" ".join(command["--common"]), "--common")
  for run in runs:
    flags = [f for f in run.flags if "local_mixture" not in f]  # made by a tool
    _parse([*common, *flags, *run.eval_flags])
    assert config.value("run.dataset_split") == "validation"


def test_an_unknown_sweep_is_said_with_those_there_are():
  with pytest.raises(errors.UserError, match="ablations.sweep"):
    sweep_file.find("nothing.sweep")


def _evaluated(run) -> set[str]:
  """The tasks that get scores on the validation split."""
  _parse(run.flags)
  mixtures.define_mixture()
  name = config.value("mesh_train_dataset_fn.mixture_or_task_name")
  tasks = seqio.get_subtasks(mixtures.get_mixture_or_task(name))
  gin.clear_config()
  # DPR is not in the made-up data; TFDS has no validation split of it.
  tasks = [t for t in tasks if t.name != "dpr_v001_simple"]
  found = seqio.evaluation.get_valid_eval_tasks(tasks, "validation")
  return {t.name for t in found}


@pytest.mark.parametrize(
  ("name", "count"),
  [("glue", 9), ("super_glue", 8), ("glue_super_glue", 17), ("embedded", 8)],
)
def test_the_single_models_have_every_score_of_the_mixture(
  name, count, tfds_dir, monkeypatch
):
  """A seed that lacks one gets no average, so no share of a gap is shown."""
  monkeypatch.setattr(seqio.utils, "_TFDS_DATA_DIR_OVERRIDE", str(tfds_dir))
  runs = _of_the_project(f"{name}.sweep")
  single = [_evaluated(r) for r in runs if r.cell == "single"]
  (vanilla,) = [_evaluated(r) for r in runs if r.name == "vanilla"]
  assert len(vanilla) == count
  assert set.union(*single) == vanilla
  assert sum(map(len, single)) == count  # each by one model


def test_shares_have_all_runs_and_none_in_common():
  runs = parse(seeds=[0, 1])
  shares = [sweep_file.select(runs, [], f"{n}/3") for n in (1, 2, 3)]
  assert sorted(map(len, shares)) == [3, 3, 4]
  assert sorted(r.label for s in shares for r in s) == sorted(
    r.label for r in runs
  )
  assert sweep_file.select(runs, [], "") == runs
  for wrong in ("0/3", "4/3", "x", "1/0", "1/11"):
    with pytest.raises(errors.UserError, match=f"--share={wrong} is"):
      sweep_file.select(runs, [], wrong)
  kept = sweep_file.select(runs, ["vanilla"], "")
  assert {r.cell for r in kept} == {"vanilla"} and len(kept) == 2
  with pytest.raises(errors.UserError, match="vanilla"):
    sweep_file.select(runs, ["nothing"], "")
