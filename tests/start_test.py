"""What a program answers before it imports TensorFlow."""

import json
import re

from tests import command
from tools import __main__ as tools

# Runs one program after the other, each in a copy of a process that has
# imported nothing, and prints what each answered and whether TensorFlow came.
_STARTS = """
import json, os, runpy, sys
import absl.app, tqdm  # once, and not ours
for name, words in json.loads(sys.argv[1]):
  read, write = os.pipe()
  child = os.fork()
  if not child:
    sys.argv = [name, *words]
    sys.orig_argv = ["python", "-m", name, *words]
    os.dup2(write, 1)
    os.dup2(write, 2)
    try:
      runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as e:
      if e.code and not isinstance(e.code, int):
        print(e.code)
    heavy = {"tensorflow", "mesh_tensorflow", "seqio", "t5"} & {*sys.modules}
    print("\\nimported", *sorted(heavy), flush=True)
    sys.stderr.flush()
    os._exit(0)
  os.close(write)
  with os.fdopen(read, errors="replace") as f:
    print(json.dumps(f.read()), flush=True)
  os.waitpid(child, 0)
"""
# tools.tpu uses no absl, and has tests of its own.
PROGRAMS = ["hypergrid_mtf.main"]
PROGRAMS += [f"tools.{n}" for n in tools.find_programs() if n != "tpu"]
NEEDS_OUTPUT_DIR = ("tools.export", "tools.fold", "tools.huggingface")
# A file or folder that is not there.
ABSENT = {
  "hypergrid_mtf.main": ("--gin_file=models/tinny.gin", "--vocabulary=none"),
  "tools.check": ("--gin_file=models/tinny.gin",),
  "tools.cache_tasks": ("--gin_file=none.gin", "--t5_tfds_data_dir=none"),
  "tools.export": ("--model_dir=none",),
  "tools.fold": ("--model_dir=none",),
  "tools.gates": ("--model_dir=none",),
  "tools.huggingface": ("--input_dir=none", "--model_dir=none"),
  "tools.plan": ("--gin_file=none.gin",),
  "tools.predict": ("--input_file=none", "--saved_model=none"),
  "tools.prepare_data": ("--glue_dir=none", "--super_glue_dir=none"),
  "tools.report": ("--results=none",),
  "tools.submit": ("--model_dir=none",),
  "tools.sweep": ("--sweep=none",),
  "tools.tables": ("--results=none", "--update=none"),
  "tools.train_vocabulary": ("--gin_file=none.gin",),
}


def _start(starts: list) -> list[str]:
  done = command.python("-c", _STARTS, json.dumps(starts))
  assert not done.stderr, done.stderr[-3000:]
  return [json.loads(line) for line in done.stdout.splitlines()]


def test_help_and_refusals_import_no_tensorflow():
  starts = []
  for program in PROGRAMS:
    verb = ["to"] if program == "tools.huggingface" else []
    for word in ("--help", "--modl_dir=x", *ABSENT.get(program, ())):
      also = ["--output_dir=x"] if program in NEEDS_OUTPUT_DIR else []
      starts.append([program, [*verb, word, *also]])
  for (program, words), said in zip(starts, _start(starts), strict=True):
    given = f"{program} {words}: {said}"
    assert said.endswith("\nimported\n"), given
    if "--help" in words:
      assert "helpfull" in said, given
      continue
    (refusal,) = [line for line in said.split("\n") if line][:-1]
    assert refusal.startswith("error: "), given
    wrong = words[-1 - (program in NEEDS_OUTPUT_DIR)]
    assert wrong.strip("-").split("=")[0] in refusal, given
    if "modl" not in wrong:
      missing = "does not exist|was not found|is not a file"
      assert re.search(missing, refusal), given


def test_a_saved_model_needs_tensorflow_alone(tmp_path):
  (tmp_path / "inputs.txt").write_text("a text\n")
  words = [f"--saved_model={tmp_path}", f"--input_file={tmp_path}/inputs.txt"]
  (said,) = _start([["tools.predict", words]])
  assert "is not the folder of a SavedModel" in said
  assert said.endswith("\nimported tensorflow\n"), said


def test_help_shows_the_flags_of_the_documents():
  programs = ["hypergrid_mtf.main", "tools.check", "tools.export"]
  run, check, export = _start([[name, ["--help"]] for name in programs])
  for name in ("gin_file", "module_import", "vocabulary", "seed", "tpu"):
    assert f"  --{name}:" in run and f"  --{name}:" in check
  assert "--checkpoint_mode" not in run
  for name in ("model_dir", "beam_size", "step", "alpha", "output_dir"):
    assert f"  --{name}:" in export
  assert "--gin_file" not in export  # it does not read it
