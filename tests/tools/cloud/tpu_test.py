"""The life of TPUs, against a stand-in for gcloud that fails in known ways."""

import json
import pathlib
import shlex
import subprocess
import sys
import tarfile
import time

import pytest

from tests import command
from tests.tools.cloud import fake_gcloud
from tools import tpu
from tools.cloud import bundle, gcloud, kinds, plan_file

_HERE = pathlib.Path(__file__).parent
_ONE = ["--zone=us-central1-a", "--accelerator_type=v3-8", "--gs_dir=gs://b/l2"]
_SPOT = [
  "--zone=us-central1-a",
  "--accelerator_type=v3-32",
  "--spot",
  "--queued",
  "--gs_dir=gs://b/l2",
]
_SWEEP = [
  "--zone=us-central1-a",
  "--accelerator_type=v3-8",
  "--sweep=glue.sweep",
  "--tpus=3",
  "--gs_dir=gs://b/glue",
]
_NO_CAPACITY = (
  'ERROR: (gcloud.compute.tpus.tpu-vm.create) {"code": 8, "message": "There is '
  'no more capacity in the zone \\"us-central1-a\\"; you can try another"}'
)
_QUOTA = (
  "ERROR: (gcloud.compute.tpus.tpu-vm.create) RESOURCE_EXHAUSTED: Quota limit "
  "'TPUV3PreemptiblePerProjectPerZoneForTPUAPI' has been exceeded. Limit: 0"
)
_LOGIN = (
  "ERROR: (gcloud.compute.tpus.tpu-vm.describe) You do not currently have an "
  "active account selected.\nPlease run:\n\n  $ gcloud auth login\n"
)
_SSH = "ssh: connect to host 10.0.0.1 port 22: Connection timed out"


class _Clock:
  """Time that passes at once; `at_sleep` is called instead."""

  def __init__(self):
    self.time = 1_000_000.0
    self.slept = []
    self.at_sleep = lambda: None

  def now(self):
    return self.time

  def sleep(self, seconds):
    self.time += seconds
    self.slept.append(seconds)
    self.at_sleep()
    time.sleep(0.02)  # what runs on the machines needs some


class _Cloud:
  """A fake Google, and `tools.tpu` used there."""

  def __init__(self, root, monkeypatch):
    self.root = root / "google"
    (self.root / "bin").mkdir(parents=True)
    (self.root / "nodes").mkdir()
    self.program = self.root / "bin" / "gcloud"
    self.program.write_text(
      f'#!/bin/sh\nexec {sys.executable} -S {_HERE}/fake_gcloud.py "$@"\n'
    )
    self.program.chmod(0o755)
    monkeypatch.setenv("FAKE_GCLOUD", str(self.root))
    monkeypatch.setattr(fake_gcloud, "ROOT", self.root)
    # Of the project, what the stand-in runs.
    parts = ("tools/__init__.py", "tools/cloud")
    monkeypatch.setattr(bundle, "PARTS", parts)
    self.state_dir = root / "state"
    self.clock = _Clock()
    self.lines = []

  def faults(self, *faults):
    (self.root / "faults.json").write_text(json.dumps(faults))

  def run(self, what, name, *flags, program=None):
    """`python -m tools.tpu`; returns the exit status."""
    words = [what, f"--name={name}", f"--state_dir={self.state_dir}"]
    words += [f"--gcloud={program or self.program}", "--price_per_hour=8"]
    return tpu.main([*words, *flags], self.clock, self.lines.append)

  def calls(self, *parts):
    calls = (self.root / "calls").read_text().splitlines()
    lines = [" ".join(json.loads(call)) for call in calls]
    return [ln for ln in lines if all(part in ln for part in parts)]

  @property
  def nodes(self):
    return sorted(path.name for path in (self.root / "nodes").iterdir())

  @property
  def text(self):
    return "\n".join(self.lines)

  def node(self, name, of="l2"):
    path = plan_file.path_of(str(self.state_dir), of)
    return plan_file.read(path).nodes[name]

  def pause_at(self, step, then):
    """Lets a training wait at a step, and does something once it is there."""
    pause = self.root / "pause"
    pause.write_text(str(step))
    saved = self.root / "bucket/b/l2/model.ckpt-step"

    def wait():
      if not saved.exists():
        return
      for _ in range(500):
        if saved.read_text() == str(step):
          break
        time.sleep(0.01)
      self.clock.at_sleep = lambda: None
      then()
      pause.unlink()

    self.clock.at_sleep = wait


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  return _Cloud(tmp_path, monkeypatch)


def test_one_v3_8_from_nothing_to_results(cloud):
  flags = ["--then=--gin_file=eval.gin --gin_param='a = 1'"]
  flags += ["--", "--gin_file=models/base.gin", "--gin_param=b = 'x y'"]
  assert cloud.run("run", "l2", *_ONE, *flags) == 0, cloud.text
  assert cloud.nodes == []
  fetched = cloud.state_dir / "l2" / "results.txt"
  given = fetched.read_text()
  assert given.endswith(
    "--model_dir=gs://b/l2 --tpu=local "
    '--gin_param=tpu_mesh_shape.tpu_topology="v3-8" --gin_file=models/base.gin '
    "--gin_param=b = 'x y' --gin_file=eval.gin --gin_param=a = 1"
  )
  assert not (fetched.parent / "model.ckpt-step").exists()
  assert [line for line in cloud.lines if "| step" in line] == [
    f"l2: | step {n}" for n in range(1, 5)
  ]
  assert "cores: 8." in cloud.text
  assert cloud.lines[-1].startswith("l2: deleted, after 0.0")
  assert "at 8 an hour" in cloud.lines[-1]
  assert "still be there" not in cloud.text
  (create,) = cloud.calls("tpu-vm create")
  assert "--version=tpu-vm-tf-2.15.0-se" in create and "--spot" not in create
  # The parts by themselves; what is done is not done again.
  assert cloud.run("status", "l2") == 0
  assert cloud.lines[-1].startswith("l2: not there, 0.0")


def test_a_spot_v3_32_that_is_taken_away_twice(cloud):
  """While it installs, and while it trains; a worker and ssh fail as well."""
  terminal = (
    'ERROR: This TPU has terminal state "PREEMPTED", so it cannot be used.'
  )
  cloud.faults(
    {"when": "install_tpu", "preempt": "l2", "say": terminal},
    {"when": "on_tpu report", "say": _SSH, "status": 255, "times": 2},
  )
  (cloud.root / "broken.json").write_text(json.dumps({"worker-2": 1}))
  cloud.pause_at(2, lambda: fake_gcloud.preempt("l2"))
  assert cloud.run("run", "l2", *_SPOT, "--", "--gin_file=x.gin") == 0, (
    cloud.text
  )
  assert cloud.nodes == [] and cloud.node("l2").taken == 2
  text = cloud.text
  assert text.count("was taken away") == 2
  assert "in the queue: WAITING_FOR_RESOURCES" in text
  assert "failed on worker 2: error: the lock was not installed" in text
  assert text.count("cannot be reached") >= 1
  # The one worker was done again by itself.
  assert len(cloud.calls("install_tpu", "--worker=2")) == 1
  assert len(cloud.calls("install_tpu", "--worker=all")) == 3
  # On from what the bucket has.
  assert "| tpu=l2 from step 2" in text
  assert text.count("| step 2") <= 1 and text.count("| step 4") == 1
  assert len(cloud.calls("queued-resources create")) == 3
  assert len(cloud.calls("queued-resources delete", "--force")) == 3
  assert "TPU_NAME=l2" in cloud.calls("on_tpu start")[0]


def test_a_sweep_over_three_tpus(cloud):
  cloud.faults({"when": "create glue-2", "say": _NO_CAPACITY, "times": 2})
  assert cloud.run("run", "glue", *_SWEEP, "--", "--seeds=0") == 0, cloud.text
  assert cloud.nodes == []
  results = cloud.state_dir / "glue" / "results"
  found = {path.stem: path.read_text() for path in results.iterdir()}
  assert found == {f"model{n}": str(n % 3 + 1) for n in range(5)}
  assert len(list((results.parent / "logs").iterdir())) == 5
  assert cloud.text.count("glue-2: no capacity") == 2
  assert {60, 120} <= set(cloud.clock.slept)
  for number in (1, 2, 3):
    (start,) = cloud.calls("on_tpu start", f"ssh glue-{number} ")
    assert f"--share={number}/3" in start


def test_what_does_not_pass_by_itself_is_said_and_leaves_nothing(cloud):
  cloud.faults({"when": "tpu-vm create", "say": _QUOTA})
  assert cloud.run("run", "l2", *_ONE) == 1
  assert cloud.nodes == [] and not cloud.node("l2").asked
  assert cloud.lines[-1].startswith("error: l2: ERROR: (gcloud.compute")
  assert "ask for quota" in cloud.lines[-1] and not cloud.clock.slept

  cloud.faults({"when": "tpu-vm create", "say": _NO_CAPACITY, "times": 99})
  assert cloud.run("run", "l2", *_ONE, "--capacity_hours=0.2") == 1
  assert "no capacity for v3-8 in us-central1-a in 0.2 hours" in cloud.lines[-1]
  assert "still be there" not in cloud.text

  cloud.faults({"when": "describe", "say": _LOGIN})
  assert cloud.run("run", "l2", *_ONE) == 1
  assert "run gcloud auth login" in cloud.lines[-1]

  assert cloud.run("run", "l2", *_ONE, program="/no/gcloud") == 1
  assert "/no/gcloud is not installed" in cloud.lines[-1]
  assert cloud.nodes == []

  fake_gcloud.new_node("l2", "v3-8")  # somebody's
  assert cloud.run("run", "l2", *_ONE) == 1
  assert "this program did not make" in cloud.lines[-1]
  assert cloud.nodes == ["l2"]


def test_a_tpu_that_cannot_be_deleted_is_said_with_its_cost(cloud):
  cloud.faults({"when": "tpu-vm delete", "say": "ERROR: INTERNAL", "times": 5})
  assert cloud.run("run", "l2", *_ONE) == 1
  assert cloud.nodes == ["l2"]
  left, error = cloud.lines[-2:]
  assert left.startswith(
    "TPU l2 (v3-8, us-central1-a, 8 an hour) may still be there and cost money"
  )
  assert f"delete --name=l2 --state_dir={cloud.state_dir}" in left
  assert error == "error: l2: it was not deleted: ERROR: INTERNAL"
  cloud.clock.time += 7200
  assert cloud.run("delete", "l2") == 0
  assert cloud.nodes == [] and 2 < cloud.node("l2").hours < 2.2
  assert "16." in cloud.lines[-1] or "17." in cloud.lines[-1]


def test_a_worker_that_never_installs(cloud):
  (cloud.root / "broken.json").write_text(json.dumps({"worker-1": 9}))
  assert cloud.run("run", "l2", *_SPOT) == 1
  assert "on worker 1 it failed: error: the lock" in cloud.lines[-1]
  assert cloud.nodes == []

  cloud.faults({"when": "install_tpu", "preempt": "l2", "say": "ERROR: gone"})
  assert cloud.run("run", "l2", *_SPOT, "--restarts=0") == 1
  assert "it was taken away 1 times, and --restarts=0" in cloud.lines[-1]
  assert cloud.nodes == []


def test_a_connection_that_does_not_come_back(cloud):
  cloud.faults({"when": "tpu-vm scp", "say": _SSH, "status": 255, "times": 99})
  assert cloud.run("run", "l2", *_ONE, "--keep_after_error") == 1
  assert "it is READY and cannot be reached: ssh: connect" in cloud.lines[-1]
  assert "may still be there" in cloud.lines[-2] and cloud.nodes == ["l2"]
  # Of another plan while it is there: no.
  with pytest.raises(kinds.UserError, match="--accelerator_type is another"):
    cloud.run("run", "l2", *_ONE, "--accelerator_type=v2-8")
  cloud.faults()
  assert cloud.run("run", "l2", *_ONE) == 0
  assert len(cloud.calls("tpu-vm create")) == 1 and cloud.nodes == []


def test_this_program_is_ended_and_started_again(cloud):
  def end():
    raise gcloud.Interrupted

  cloud.pause_at(3, end)
  pause = cloud.root / "pause"
  cloud.run("run", "l2", *_ONE)
  assert cloud.nodes == ["l2"] and "may still be there" in cloud.lines[-1]
  pause.unlink()
  cloud.clock.at_sleep = lambda: None
  assert cloud.run("run", "l2", *_ONE) == 0, cloud.text
  for part in ("tpu-vm create", "tpu-vm scp", "on_tpu start"):
    assert len(cloud.calls(part)) == 1, part
  assert cloud.text.count("from step") == 1
  assert cloud.text.count("| step 3") == 1 and cloud.nodes == []

  # Killed between the start of a job and the note of it.
  path = plan_file.path_of(str(cloud.state_dir), "l2")
  assert cloud.run("create", "l2", *_ONE) == 0
  assert cloud.run("install", "l2") == 0
  assert cloud.run("start", "l2") == 0
  content = json.loads(pathlib.Path(path).read_text())
  content["nodes"]["l2"]["running"] = False
  pathlib.Path(path).write_text(json.dumps(content))
  before = cloud.text.count("from step")
  assert cloud.run("run", "l2", *_ONE) == 0
  assert cloud.text.count("from step") == before + 1


def test_what_is_brought_to_a_tpu(tmp_path):
  own = tmp_path / "my_tasks.py"
  own.write_text("x = 1")
  bundle.write(str(tmp_path / "bundle.tar.gz"), [str(own)])
  with tarfile.open(tmp_path / "bundle.tar.gz") as archive:
    names = set(archive.getnames())
  assert {"requirements.txt", "my_tasks.py", "hypergrid_mtf/main.py"} <= names
  assert not any("__pycache__" in name or "tests" in name for name in names)
  for name in names & {"my_tasks.py"} ^ names:
    assert (command.ROOT / name).exists()


def test_a_job_that_fails(cloud):
  (cloud.root / "fails").write_text("1 2")
  assert cloud.run("run", "l2", *_ONE) == 0
  assert cloud.text.count("exit status 1; it is started again") == 2
  assert len(cloud.calls("tpu-vm create")) == 1
  (cloud.root / "fails").write_text("2 1")
  assert cloud.run("run", "l2", *_ONE) == 1
  assert cloud.lines[-1] == (
    "error: l2: the job ended with exit status 2: error: it went wrong"
  )
  assert cloud.nodes == []
  assert cloud.run("run", "l2", *_ONE) == 0  # and it can be run again


def test_results_that_could_not_be_copied_keep_their_tpu(cloud):
  flags = ["--sweep=a.sweep", *_ONE]
  cloud.faults(
    {"when": "rsync --recursive runs/sweep", "say": "ERROR: 403", "times": 99}
  )
  assert cloud.run("run", "l2", *flags) == 1
  assert "last results could not be copied to gs://b/l2" in cloud.lines[-1]
  assert cloud.nodes == ["l2"] and "may still be there" in cloud.lines[-2]
  cloud.run("delete", "l2")


@pytest.mark.parametrize(
  "flags, sentence",
  [
    (["--name=L2"], "cannot be a TPU's"),
    (["--zone="], "--zone is not given"),
    (["--accelerator_type=v5litepod-8"], "has the PJRT runtime alone"),
    (
      ["--accelerator_type=v3-32", "--runtime_version=x-pjrt"],
      "the image x-pj",
    ),
    (["--runtime_version=tpu-vm-tf-2.15.0-pod-se"], "is for pods"),
    (["--gs_dir=runs/l2"], "is not a folder in the cloud"),
    (["--tpus=3"], "shares a sweep"),
    (["--sweep=a", "--then=--x=1"], "--then is for one run"),
    (["--valid_until_duration=6h"], "is of the queue"),
    (["--", "--model_dir=x"], "this program gives it"),
    (["--", "x"], "every option begins with --"),
    (["--then='"], "No closing quotation"),
    (["--zon=x"], "unrecognized arguments: --zon=x; see --help."),
    (["--add=nothing.py"], "--add=nothing.py is not there"),
  ],
)
def test_what_is_wrong_is_said_before_anything_begins(cloud, flags, sentence):
  with pytest.raises(kinds.UserError) as refusal:
    cloud.run("run", "l2", *_ONE, *flags)
  assert sentence in str(refusal.value) and "\n" not in str(refusal.value)
  assert not (cloud.root / "calls").exists()
  with pytest.raises(kinds.UserError, match="nothing is known of --name=l2"):
    cloud.run("status", "l2")


def _dry(cloud, *flags):
  cloud.lines.clear()
  assert cloud.run("run", "l2", *flags, "--dry_run", program="gcloud") == 0
  assert not (cloud.root / "calls").exists() and not cloud.state_dir.exists()
  return [shlex.split(line)[1:] for line in cloud.lines[:-1]]


def test_a_dry_run_prints_every_command(cloud):
  one = _dry(cloud, *_ONE, "--project=p")
  verbs = [words[3] if words[0] == "compute" else words[1] for words in one]
  assert verbs == [
    "describe",
    "create",
    "scp",
    "ssh",
    "ssh",
    "ssh",
    "rsync",
  ] + ["delete"]
  assert all(words[-1] == "--project=p" for words in one)
  spot = _dry(cloud, *_SPOT)
  assert "--runtime-version=tpu-vm-tf-2.15.0-pod-se" in spot[2]
  assert "--spot" in spot[2] and spot[2][1:4] == [
    "tpus",
    "queued-resources",
    "create",
  ]
  sweep = _dry(cloud, *_SWEEP)
  created = [words[4] for words in sweep if words[3:4] == ["create"]]
  assert created == ["l2-1", "l2-2", "l2-3"]
  assert sum("delete" in words for words in sweep) == 3


def test_the_program_needs_nothing_installed(tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, "-S", "-m", "tools.tpu", "run", "--name=l2", *_ONE),
      *("--dry_run", "--", "--gin_file=x.gin"),
    ],
    cwd=command.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("gcloud compute tpus tpu-vm describe l2 ")
  done = subprocess.run(
    [sys.executable, "-S", "-m", "tools.tpu", "run", "--nam=l2"],
    cwd=command.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2 and done.stderr.count("\n") == 1
