"""Stands for `python -m hypergrid_mtf.main` and `tools.sweep` on a TPU VM.

A step a call of `next_step`; the last checkpoint is a file in the bucket, so a
training that was taken away goes on from there. It waits for `go` in
$FAKE_GCLOUD at the step that `pause` there names.
"""

import os
import pathlib
import sys
import time

ROOT = pathlib.Path(os.environ["FAKE_GCLOUD"])


def flag(name, default=""):
  for argument in sys.argv:
    if argument.startswith(f"--{name}="):
      return argument.split("=", 1)[1]
  return default


def bucket(path):
  assert path.startswith("gs://"), path
  folder = ROOT / "bucket" / path[5:]
  folder.mkdir(parents=True, exist_ok=True)
  return folder


def train():
  folder = bucket(flag("model_dir"))
  saved = folder / "model.ckpt-step"
  step = int(saved.read_text()) if saved.exists() else 0
  print(f"tpu={flag('tpu')} from step {step}", flush=True)
  pause = ROOT / "pause"
  while step < 4:
    step += 1
    saved.write_text(str(step))
    print(f"step {step}", flush=True)
    if pause.exists() and int(pause.read_text()) == step:
      while pause.exists():
        time.sleep(0.01)
  fails = ROOT / "fails"
  if fails.exists():
    status, times = map(int, fails.read_text().split())
    if times:
      fails.write_text(f"{status} {times - 1}")
      print("error: it went wrong", flush=True)
      sys.exit(status)
  mode = "evaluated" if "--gin_file=eval.gin" in sys.argv else "trained"
  (folder / f"{mode}.txt").write_text(" ".join(sys.argv[1:]))


def sweep():
  share, shares = map(int, flag("share", "1/1").split("/"))
  output = pathlib.Path(flag("output_dir"))
  names = [f"model{n}" for n in range(5)]
  for name in names[share - 1 :: shares]:
    result = output / "results" / f"{name}.json"
    if result.exists():
      print(f"{name} is done already", flush=True)
      continue
    bucket(f"{flag('models_dir')}/{name}")
    for folder in ("results", "logs"):
      (output / folder).mkdir(parents=True, exist_ok=True)
    result.write_text(share and f"{share}")
    (output / "logs" / f"{name}.log").write_text("trained")
    print(f"{name} trained", flush=True)


if __name__ == "__main__":
  if "tools.sweep" in sys.argv:
    sweep()
  else:
    train()
