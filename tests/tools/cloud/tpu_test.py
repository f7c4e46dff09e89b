"""The life of TPUs, with a fake gcloud that fails in known ways."""

import json
import os
import pathlib
import shlex
import sys
import tarfile
import time
from unittest import mock

import pytest

from tests import command
from tests.tools.cloud import fake_gcloud
from tools import tpu
from tools.cloud import command_line, commands, lifecycle

_HERE = pathlib.Path(__file__).parent
_ONE = ["--zone=us-central1-a", "--accelerator_type=v3-8", "--gs_dir=gs://b/l2"]
_SPOT = ["--zone=europe-west4-a", "--accelerator_type=v3-32"]
_SPOT += ["--spot", "--queued", "--gs_dir=gs://b/l2"]
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


class _Cloud:
  """A fake Google, `tools.tpu` used there, and a clock that sleeping moves."""

  def __init__(self, root, monkeypatch, capsys):
    self.root = root / "google"
    (self.root / "bin").mkdir(parents=True)
    (self.root / "nodes").mkdir()
    (self.root / "now").write_text(str(1.8e9))
    program = self.root / "bin" / "gcloud"
    program.write_text(
      f'#!/bin/sh\nexec {sys.executable} -S {_HERE}/fake_gcloud.py "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_GCLOUD", str(self.root))
    monkeypatch.setattr(fake_gcloud, "ROOT", self.root)
    monkeypatch.setattr(lifecycle, "time", self)
    # Of the project, what the stand-in runs.
    monkeypatch.setattr(commands, "PARTS", ["tools"])
    self.results = root / "results"
    self.lines, self.slept, self.at_sleep = [], [], lambda: None
    self._capsys = capsys

  def time(self):
    return float((self.root / "now").read_text())

  def sleep(self, seconds):
    self.advance(seconds)
    self.at_sleep()
    time.sleep(0.02)  # what runs on the machines needs some

  def advance(self, seconds):
    self.slept.append(seconds)
    (self.root / "now").write_text(str(self.time() + seconds))

  def faults(self, *faults):
    (self.root / "faults.json").write_text(json.dumps(faults))

  def run(self, what, *flags):
    """`python -m tools.tpu`; returns the exit status."""
    words = [what, "--name=l2", "--price_per_chip_hour=2"]
    words += [f"--output_dir={self.results}", *flags]
    try:
      return tpu.main(words)
    finally:
      self.lines += self._capsys.readouterr().out.splitlines()

  def calls(self, *parts):
    calls = (self.root / "calls").read_text().splitlines()
    lines = [" ".join(json.loads(call)) for call in calls]
    return [ln for ln in lines if all(part in ln for part in parts)]

  @property
  def cost(self):
    """Of a v3-8 that was created before the first sleep."""
    hours = sum(self.slept) / 3600
    return f"{hours:.2f} h, {2 * 4 * hours:.2f} at 2 per chip and hour"

  @property
  def nodes(self):
    return sorted(path.stem for path in (self.root / "nodes").glob("*.json"))

  @property
  def text(self):
    return "\n".join(self.lines)

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
      self.at_sleep = lambda: None
      then()
      pause.unlink()

    self.at_sleep = wait


@pytest.fixture
def cloud(tmp_path, monkeypatch, capsys):
  return _Cloud(tmp_path, monkeypatch, capsys)


def test_one_v3_8_from_nothing_to_results(cloud):
  run = ["--", "--gin_file=models/base.gin", "--gin_param=b = 'x y'"]
  assert cloud.run("run", *_ONE, "--eval=--gin_param='a = 1'", *run) == 0
  assert cloud.nodes == []
  trained = (
    "-m hypergrid_mtf.main --model_dir=gs://b/l2 --tpu=local "
    '--gin_param=tpu_mesh_shape.tpu_topology="v3-8" --gin_file=models/base.gin '
    "--gin_param=b = 'x y'"
  )
  assert (cloud.results / "trained.txt").read_text() == trained
  # It evaluates without being told.
  assert (cloud.results / "evaluated.txt").read_text() == (
    f"{trained} --gin_file=eval.gin "
    "--gin_param=run.dataset_split = 'validation' --gin_param=a = 1"
  )
  assert not (cloud.results / "model.ckpt-step").exists()
  assert [line for line in cloud.lines if "| step" in line] == [
    f"l2: | step {n}" for n in range(1, 5)
  ]
  assert "TPU cores: 8." in cloud.text and "still exist" not in cloud.text
  assert cloud.lines[-1] == f"l2: deleted, after {cloud.cost}"
  (create,) = cloud.calls("tpu-vm create")
  assert "--version=tpu-vm-tf-2.15.0-se" in create and "--spot" not in create
  assert cloud.run("status", *_ONE[:1]) == 0
  assert cloud.lines[-1].startswith("l2: does not exist, 0.00 h")


def test_a_spot_v3_32_that_is_taken_away_twice(cloud):
  """During installation and during training; a worker and ssh fail too."""
  terminal = (
    'ERROR: This TPU has terminal state "PREEMPTED", so it cannot be used.'
  )
  cloud.faults(
    {"when": "install_tpu", "preempt": "l2", "say": terminal},
    {"when": "job report", "say": _SSH, "status": 255, "times": 2},
  )
  (cloud.root / "broken.json").write_text(json.dumps({"worker-2": 1}))
  cloud.pause_at(2, lambda: fake_gcloud.preempt("l2"))
  assert cloud.run("run", *_SPOT, "--", "--gin_file=x.gin") == 0, cloud.text
  assert cloud.nodes == []
  text = cloud.text
  assert text.count("was preempted") == 2
  assert "l2: WAITING_FOR_RESOURCES" in text
  assert "error: the lock was not installed" in text and "worker 2" in text
  assert text.count("cannot be reached") == 2
  # Only the worker that failed was installed again.
  assert text.count("ready: worker-2") == 2
  assert text.count("ready: worker-3") == 1
  # It resumes from what the bucket has.
  assert "| tpu=l2 from step 2" in text
  assert text.count("| step 2") <= 1 and text.count("| step 4") == 1
  assert len(cloud.calls("queued-resources create")) == 3
  assert len(cloud.calls("queued-resources delete", "--force")) == 3
  assert "TPU_NAME=l2" in cloud.calls("job start")[0]


def test_a_sweep_keeps_its_results(cloud):
  flags = [*_ONE, "--sweep=glue.sweep", "--", "--seeds=0"]
  cloud.faults({"when": "tpu-vm create", "say": _NO_CAPACITY, "times": 2})
  assert cloud.run("run", *flags, "--share=1/2") == 0, cloud.text
  assert cloud.text.count("l2: waiting for capacity") == 2
  assert cloud.slept[:2] == [60, 120]
  # The copies fail: the TPU is kept, and the same command copies.
  cloud.faults({"when": "rsync --recursive runs/sw", "say": "403", "times": 99})
  assert cloud.run("run", *flags) == 1
  assert "last results could not be copied to gs://b/l2" in cloud.lines[-1]
  assert cloud.nodes == ["l2"] and "may still exist" in cloud.lines[-2]
  cloud.faults()
  assert cloud.run("run", *flags) == 0
  assert cloud.nodes == [] and len(cloud.calls("tpu-vm create")) == 4
  assert "| model4 is done already" in cloud.text
  found = {p.stem: p.read_text() for p in (cloud.results / "results").iterdir()}
  assert found == {f"model{n}": "1" for n in range(5)}
  assert len(list((cloud.results / "logs").iterdir())) == 5


def test_what_does_not_pass_by_itself_is_said_and_leaves_nothing(cloud):
  cloud.faults({"when": "tpu-vm create", "say": _QUOTA})
  assert cloud.run("run", *_ONE) == 1
  assert cloud.nodes == [] and not cloud.slept
  assert cloud.lines[-1].startswith("error: l2: ERROR: (gcloud.compute")
  assert "request quota" in cloud.lines[-1]

  cloud.faults({"when": "tpu-vm create", "say": _NO_CAPACITY, "times": 99})
  assert cloud.run("run", *_ONE, "--capacity_hours=0.2") == 1
  assert "there was no v3-8 in us-central1-a for 0.2 h" in cloud.lines[-1]

  cloud.faults({"when": "describe", "say": _LOGIN})
  assert cloud.run("run", *_ONE) == 1
  assert "$ gcloud auth login" in cloud.lines[-1]
  assert "may still exist" not in cloud.text and cloud.nodes == []

  with (
    mock.patch.dict(os.environ, {"PATH": "/nowhere"}),
    pytest.raises(command_line.UserError, match="there is no gcloud here"),
  ):
    cloud.run("run", *_ONE)

  fake_gcloud.new_node("l2")  # somebody's
  for what in ("run", "delete"):
    with pytest.raises(command_line.UserError, match="a v3-8 l2 in us-c"):
      cloud.run(what, *_ONE)
  assert cloud.nodes == ["l2"]


def test_a_tpu_that_cannot_be_deleted_is_said_with_its_cost(cloud):
  cloud.faults({"when": "tpu-vm delete", "say": "ERROR: INTERNAL", "times": 5})
  assert cloud.run("run", *_ONE) == 1
  assert cloud.nodes == ["l2"]
  left, error = cloud.lines[-2:]
  assert left.startswith(
    "l2: a TPU in us-central1-a may still exist and has cost money since 20"
  )
  assert " at 2 per chip and hour: " in left
  assert left.endswith("tpus tpu-vm delete l2 --zone=us-central1-a --quiet")
  assert error == "error: l2: it was not deleted: ERROR: INTERNAL"
  cloud.advance(7200)
  assert cloud.run("delete", *_ONE[:1]) == 0
  assert cloud.nodes == []
  assert cloud.lines[-1] == f"l2: deleted, after {cloud.cost}"


def test_a_worker_that_never_installs(cloud):
  (cloud.root / "broken.json").write_text(json.dumps({"worker-1": 9}))
  assert cloud.run("run", *_SPOT) == 1
  assert "the installation failed: error: the lock" in cloud.lines[-1]
  assert "on worker 1 failed" in cloud.lines[-1] and cloud.nodes == []

  cloud.faults({"when": "install_tpu", "preempt": "l2", "say": "ERROR: gone"})
  assert cloud.run("run", *_SPOT, "--restarts=0") == 1
  assert "it was preempted 1 times, and --restarts=0" in cloud.lines[-1]
  assert cloud.nodes == []


def test_a_connection_that_does_not_come_back(cloud):
  cloud.faults({"when": "tpu-vm scp", "say": _SSH, "status": 255, "times": 99})
  assert cloud.run("run", *_ONE, "--keep_after_error") == 1
  assert "it is READY and cannot be reached: ssh: connect" in cloud.lines[-1]
  assert "may still exist" in cloud.lines[-2] and cloud.nodes == ["l2"]
  assert sum(cloud.slept) >= 600
  # Another type while it exists: no.
  with pytest.raises(command_line.UserError, match="not made with these flags"):
    cloud.run("run", *_ONE, "--accelerator_type=v2-8")
  # This machine is offline: nothing is known of the TPU.
  cloud.faults(
    {"when": "tpu-vm scp", "say": _SSH, "status": 255},
    {"when": "describe l2 --zone=us-central1-a --format=json", "times": 1},
    {"when": "describe", "say": "ERROR: no route to host"},
  )
  assert cloud.run("run", *_ONE) == 0, cloud.text
  assert len(cloud.calls("tpu-vm create")) == 1 and cloud.nodes == []


def test_this_program_is_ended_and_started_again(cloud):
  def end():
    raise KeyboardInterrupt

  cloud.pause_at(3, end)
  assert cloud.run("run", *_ONE) == 130
  assert cloud.nodes == ["l2"] and "may still exist" in cloud.lines[-2]
  assert "the same command continues" in cloud.lines[-1]
  # Another job does not push it aside.
  cloud.at_sleep = lambda: None
  assert cloud.run("run", *_ONE, "--train_only") == 1
  assert "another job is running on it" in cloud.lines[-1] and cloud.nodes == [
    "l2"
  ]
  (cloud.root / "pause").unlink()
  assert cloud.run("run", *_ONE) == 0, cloud.text
  for part in ("tpu-vm create", "tpu-vm scp", "job start"):
    assert len(cloud.calls(part)) == 1, part
  assert cloud.nodes == [] and (cloud.results / "evaluated.txt").exists()


def test_a_job_that_fails(cloud):
  (cloud.root / "fails").write_text("1 2")
  assert cloud.run("run", *_ONE) == 0
  assert cloud.text.count("exit status 1; restarting it") == 2
  assert len(cloud.calls("tpu-vm create")) == 1
  (cloud.root / "fails").write_text("2 1")
  assert cloud.run("run", *_ONE, "--keep_after_error") == 1
  assert cloud.lines[-1] == (
    "error: l2: the job ended with exit status 2: error: it went wrong"
  )
  # It can be run again where it was kept; with --keep nothing is deleted.
  assert cloud.nodes == ["l2"]
  assert cloud.run("run", *_ONE, "--keep") == 0
  assert cloud.nodes == ["l2"] and "may still exist" in cloud.lines[-1]
  assert len(cloud.calls("tpu-vm create")) == 2
  cloud.run("delete", *_ONE)


def test_what_is_brought_to_a_tpu(tmp_path):
  own = tmp_path / "my_tasks.py"
  own.write_text("x = 1")
  commands.write_archive(str(tmp_path / "archive"), [str(own)])
  with tarfile.open(tmp_path / "archive") as archive:
    names = set(archive.getnames())
  assert {"requirements.txt", "my_tasks.py", "hypergrid_mtf/main.py"} <= names
  assert not any("__pycache__" in name or "tests" in name for name in names)
  for name in names - {"my_tasks.py"}:
    assert (command.ROOT / name).exists()


@pytest.mark.parametrize(
  "flags, sentence",
  [
    (["--name=L2"], "is not a name for a TPU"),
    (["--zone="], "--zone is not given"),
    (["--gs_dir="], "--gs_dir is not given"),
    (
      ["--accelerator_type=v5litepod-8"],
      "v5litepod-8 has only the PJRT runtime",
    ),
    (["--accelerator_type=v5p-8"], "v5p-8 has only the PJRT runtime"),
    (["--accelerator_type=v6e-4"], "v6e-4 has only the PJRT runtime"),
    (["--accelerator_type=v3"], "'v3' is not a type of TPU"),
    (
      ["--runtime_version=x-pjrt"],
      "the image x-pjrt has only the PJRT runtime",
    ),
    (
      ["--runtime_version=tpu-vm-tf-2.15.0-pod-se"],
      "is for pods: use tpu-vm-tf-2.15.0-se",
    ),
    (
      ["--accelerator_type=v3-32", "--runtime_version=tpu-vm-tf-2.15.0-se"],
      "use tpu-vm-tf-2.15.0-pod-se",
    ),
    (["--gs_dir=runs/l2"], "is not a folder in the cloud"),
    (["--sweep=a", "--train_only"], "are for a single run"),
    (["--", "--model_dir=x"], "which this program sets"),
    (["--", "x"], "'x' cannot be given after -- or in --eval: give --N"),
    (["--eval='"], "No closing quotation"),
    (["--eval=--tpu=x"], "which this program sets"),
    (["--zon=x"], "unrecognized arguments: --zon=x; see --help."),
    (["--add=nothing.py"], "--add=nothing.py does not exist"),
  ],
)
def test_what_is_wrong_is_said_before_anything_begins(cloud, flags, sentence):
  with pytest.raises(command_line.UserError) as refusal:
    cloud.run("run", *_ONE, *flags)
  assert sentence in str(refusal.value) and "\n" not in str(refusal.value)
  assert not (cloud.root / "calls").exists()


def _dry(cloud, what, *flags):
  cloud.lines.clear()
  assert cloud.run(what, *flags, "--dry_run") == 0
  assert not (cloud.root / "calls").exists() and not cloud.results.exists()
  lines = [line for line in cloud.lines if not line.startswith("# ")]
  return [shlex.split(line)[1:] for line in lines]


def test_a_dry_run_prints_every_command(cloud):
  one = _dry(cloud, "run", *_ONE, "--project=p")
  verbs = [words[3] if words[0] == "compute" else words[1] for words in one]
  assert verbs == (
    ["describe", "create", "scp", "ssh", "ssh", "ssh", "rsync", "delete"]
  )
  assert all(words[-1] == "--project=p" for words in one)
  (plain,) = [line for line in cloud.lines if line.startswith("# that is: ")]
  assert "'\"'\"'" not in plain and plain.endswith(
    "--gin_file=eval.gin \"--gin_param=run.dataset_split = 'validation'\""
  )
  spot = _dry(cloud, "run", *_SPOT)
  assert spot[2][1:4] == ["tpus", "queued-resources", "create"]
  assert "--runtime-version=tpu-vm-tf-2.15.0-pod-se" in spot[2]
  assert {"--spot", "--labels=hypergrid-mtf=l2"} <= set(spot[2])
  assert "--valid-until-duration=24h" in spot[2]
  sweep = _dry(cloud, "run", *_ONE, "--sweep=a.sweep")
  assert sum("rsync" in words for words in sweep) == 2
  v4 = _dry(cloud, "run", *_ONE, "--accelerator_type=v4-8")
  assert "logical_cores_per_chip=1" in v4[4][-1] and '"4x1"' in v4[4][-1]
  assert [words[3] for words in _dry(cloud, "status", *_SPOT)] == (
    ["describe", "describe"]
  )
  assert _dry(cloud, "delete", *_SPOT)[-1][3:5] == ["delete", "l2-queue"]


def test_the_program_needs_nothing_installed(tmp_path):
  for flags, status, line in (
    (["--name=l2", *_ONE, "--dry_run"], 0, "gcloud compute tpus tpu-vm desc"),
    (["--nam=l2"], 2, "error: the following arguments are required: --name"),
  ):
    done = command.python("-S", "-m", "tools.tpu", "run", *flags)
    assert done.returncode == status, done.stderr
    assert (done.stdout or done.stderr).startswith(line)
    assert not (done.stdout and done.stderr)
