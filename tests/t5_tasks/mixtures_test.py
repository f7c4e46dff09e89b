"""Mixtures: T5's rates, RTE once, and mixtures by gin."""

import gin
import pytest
import seqio
from t5.data import glue_utils

import t5_tasks
from hypergrid_mtf.errors import UserError
from t5_tasks import mixtures


@pytest.fixture(autouse=True)
def _leave_no_trace():
  before = set(seqio.MixtureRegistry.names())
  yield
  for name in set(seqio.MixtureRegistry.names()) - before:
    seqio.MixtureRegistry.remove(name)
  gin.clear_config()


def _rates(name):
  mixture = seqio.MixtureRegistry.get(name)
  return {t.name: mixture.get_rate(t) for t in mixture.tasks}


def test_importing_registers_t5s_own():
  assert t5_tasks.__doc__
  assert _rates("glue_v002_proportional") == glue_utils.GLUE_WEIGHT_MAPPING
  assert (
    _rates("super_glue_v102_proportional")
    == glue_utils.SUPER_GLUE_WEIGHT_MAPPING
  )


def test_both_benchmarks_in_one_mixture():
  rates = _rates("glue_super_glue_proportional")
  expected = {
    **glue_utils.GLUE_WEIGHT_MAPPING,
    **glue_utils.SUPER_GLUE_WEIGHT_MAPPING,
  }
  rte = {"glue_rte_v002", "super_glue_rte_v102"}
  assert rates.keys() == expected.keys()
  assert {n: r for n, r in rates.items() if n not in rte} == {
    n: r for n, r in expected.items() if n not in rte
  }
  assert [rates[n] for n in sorted(rte)] == [1245.0, 1245.0]
  # T5's own mapping is left alone.
  assert glue_utils.GLUE_WEIGHT_MAPPING["glue_rte_v002"] == 2490.0


def test_rates_are_those_of_t5s_all_proportional():
  theirs = seqio.MixtureRegistry.get("all_proportional").rate_per_task_name
  for name, rate in _rates("glue_super_glue_proportional").items():
    assert theirs[name] == rate


def test_define_mixture_through_gin():
  gin.parse_config("""
    t5_tasks.mixtures.define_mixture.name = "mine"
    t5_tasks.mixtures.define_mixture.tasks = [
        "glue_cola_v002", "glue_rte_v002_task_token", "glue_ax_v002",
        "embedded_copy_v1", ("glue_sst2_v002", 8000)]
  """)
  assert mixtures.define_mixture() == "mine"
  assert _rates("mine") == {
    "glue_cola_v002": 8551.0,
    "glue_rte_v002_task_token": 2490.0,
    "glue_ax_v002": 0.0,
    "embedded_copy_v1": 20000.0,
    "glue_sst2_v002": 8000.0,
  }
  gin.clear_config()
  assert mixtures.define_mixture() is None
  # A second definition replaces the first.
  mixtures.define_mixture("mine", ["embedded_rot_v1"])
  assert _rates("mine") == {"embedded_rot_v1": 20000.0}


def test_a_defined_mixture_has_its_task_tokens():
  """With the rates of its own; where a task has none, there is no variant."""
  mark = mixtures.TASK_TOKEN_SUFFIX
  tasks = ["glue_cola_v002", ("super_glue_rte_v102", 100), "embedded_v1"]
  mixtures.define_mixture("mine", tasks)
  assert _rates("mine_task_token") == {
    name + mark: rate for name, rate in _rates("mine").items()
  }
  mixtures.define_mixture("mine", [f"embedded_rot_v1{mark}"])
  assert "mine_task_token" not in seqio.MixtureRegistry.names()


def test_mixtures_can_be_members():
  mixtures.define_mixture("mine", ["embedded_copy_v1", ("embedded_v1", 10)])
  rates = _rates("mine")
  assert rates["embedded_rot_v1"] == 10 / 8
  assert rates["embedded_copy_v1"] == 20000 + 10 / 8
  mixtures.define_mixture("mine2", ["glue_v002_proportional"])
  assert _rates("mine2") == pytest.approx(glue_utils.GLUE_WEIGHT_MAPPING)


@pytest.mark.parametrize(
  ("name", "tasks", "says"),
  [
    ("m", ["glue_colla_v002"], "'glue_colla_v002'.*similar: .*glue_cola_v002"),
    ("m", None, "give a list"),
    ("m", "glue_cola_v002", "give a list"),
    ("m", [], "give a list"),
    ("m", ["glue_ax_v002"], "nothing to train on"),
    ("m", ["glue_cola_v002", "glue_cola_v002"], "twice"),
    ("m", [("glue_cola_v002", -1)], "0 or more"),
    ("m", [("glue_cola_v002", "x")], "0 or more"),
    ("m", [("glue_cola_v002", float("nan"))], "0 or more"),
    ("m", [3], "0 or more"),
    ("m", ["m"], "itself"),
    ("glue_cola_v002", ["glue_rte_v002"], "is a task"),
    (None, ["glue_rte_v002"], "name the mixture"),
  ],
)
def test_wrong_mixtures_are_explained(name, tasks, says):
  with pytest.raises(UserError, match=says):
    mixtures.define_mixture(name, tasks)
  assert "m" not in seqio.MixtureRegistry.names()


def test_examples_rate_of_a_task_of_unknown_size():
  task = seqio.Task(
    "no_size",
    seqio.FunctionDataSource(
      lambda split, shuffle_files: None, splits=["train"]
    ),
    output_features={},
  )
  with pytest.raises(UserError, match="'no_size' does not declare how many"):
    mixtures.examples_rate(task)


def test_unknown_names_get_the_nearest():
  with pytest.raises(UserError, match="(?s)'glue_v002_propotional'.*similar"):
    mixtures.get_mixture_or_task("glue_v002_propotional")
  with pytest.raises(UserError, match="--module_import"):
    mixtures.get_mixture_or_task("")
  assert mixtures.get_mixture_or_task("embedded_v1").name == "embedded_v1"
