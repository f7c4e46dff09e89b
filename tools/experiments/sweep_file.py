"""Reads the files that describe sweeps, and lists their jobs."""

import dataclasses
import os
import re
import shlex
import string
from collections.abc import Iterator

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files

SWEEPS = os.path.join(gin_files.folder(), "sweeps")
_LINE = re.compile(
  r"(?P<name>[^:\s]+)(?: for (?P<var>\w+) in (?P<values>[^:]+))?:"
  r"(?P<flags>.*)"
)


@dataclasses.dataclass(frozen=True)
class Job:
  """One model with one seed.

  Attributes:
    name: of its line, e.g. "L2" or "single/glue_rte_v002".
    seed: the value of --seed.
    flags: flags of its training and its evaluation.
    eval_flags: more flags of its evaluation, after `flags`.
  """

  name: str
  seed: int
  flags: tuple[str, ...]
  eval_flags: tuple[str, ...]

  @property
  def cell(self) -> str:
    return self.name.split("/")[0]

  @property
  def label(self) -> str:
    """The job's name as part of a file name."""
    return f"{self.name.replace('/', '-')}-seed{self.seed}"


def find(name: str) -> str:
  """The path of a sweep, given its path or its name in operative_configs."""
  for path in (name, os.path.join(SWEEPS, name)):
    if os.path.isfile(path):
      return path
  known = sorted(os.listdir(SWEEPS)) if os.path.isdir(SWEEPS) else []
  raise errors.UserError(
    f"--sweep={name} is not a file; operative_configs/sweeps has "
    f"{', '.join(known) or 'none'}."
  )


def read(path: str) -> str:
  """The text of a sweep."""
  try:
    with open(path, encoding="utf-8") as f:
      return f.read()
  except (OSError, UnicodeDecodeError) as e:
    raise errors.UserError(f"--sweep={path} cannot be read: {e}.") from None


def parse(
  text: str, where: str, seeds: list[int], given: dict[str, str]
) -> list[Job]:
  """The jobs of a sweep.

  Args:
    text: of the file.
    where: its path, for messages.
    seeds: one job each.
    given: {WORD: text} of --set.

  Returns:
    all jobs of the first seed first

  Raises:
    UserError: with file and line.
  """
  usual: dict[str, str] = {}
  lines: dict[str, tuple[str, ...]] = {}
  for number, line in _lines(text):
    at = f"{where}, line {number}"
    match = _LINE.fullmatch(line)
    if not match:
      raise errors.UserError(
        f"{at}: {line!r} is not a line of a sweep: write NAME: FLAGS, or NAME "
        "for WORD in VALUES: FLAGS."
      )
    if match["name"] == "set":
      usual.update(word_and_text(w, at) for w in shlex.split(match["flags"]))
      continue
    for value in (match["values"] or "").split() or [""]:
      words = {**usual, **given}
      if match["var"]:
        words[match["var"]] = value
      try:
        name, *parts = (
          string.Template(part).substitute(words)
          for part in (match["name"], *split_flags(match["flags"], at))
        )
      except KeyError as e:
        raise errors.UserError(
          f"{at}: ${e.args[0]} is not defined: give it with "
          f"--set={e.args[0]}=TEXT."
        ) from None
      except ValueError as e:
        raise errors.UserError(f"{at}: {errors.sentence(e)}") from None
      if name in lines:
        raise errors.UserError(f"{at}: {name!r} is defined twice.")
      lines[name] = tuple(parts)
  train, evaluate = (lines.pop(name, ()) for name in ("train", "eval"))
  if not lines:
    raise errors.UserError(f"{where} names no model to run.")
  return [
    Job(name, seed, train + parts, evaluate)
    for seed in seeds
    for name, parts in lines.items()
  ]


def _lines(text: str) -> Iterator[tuple[int, str]]:
  """Yields (number, line), joining lines that continue after a backslash.

  Skips empty lines and comments.
  """
  # Only a newline ends a line: str.splitlines also breaks a name at U+2028.
  for match in re.finditer(r"(.*\\\n)*.*", text):
    line = match[0].replace("\\\n", " ").strip()
    if line and not line.startswith("#"):
      yield text.count("\n", 0, match.start()) + 1, line


def word_and_text(pair: str, where: str) -> tuple[str, str]:
  """Splits WORD=TEXT into its parts."""
  word, equals, text = pair.partition("=")
  if not equals or not word.isidentifier():
    raise errors.UserError(f"{where}: {pair!r} is not WORD=TEXT.")
  return word, text


def split_flags(text: str, at: str) -> list[str]:
  """Splits the flags in a line as a shell would."""
  try:
    parts = shlex.split(text)
  except ValueError as e:
    raise errors.UserError(f"{at}: {e}.") from None
  for part in parts:
    if not part.startswith("--"):
      raise errors.UserError(
        f"{at}: {part!r} is not a flag: every option begins with --, and must "
        "be quoted if it has spaces."
      )
  return parts


def select(jobs: list[Job], cells: list[str], share: str) -> list[Job]:
  """Selects a part of the jobs.

  Args:
    jobs: of a sweep, in order.
    cells: names of cells; none means all.
    share: "2/3" for the second of three machines: every third job, from the
      second on; "" means all.

  Raises:
    UserError: for a cell that the sweep does not have, or a malformed share.
  """
  known = dict.fromkeys(job.cell for job in jobs)
  for cell in cells:
    if cell not in known:
      raise errors.UserError(
        f"--cells={cell} is not in the sweep, which has {', '.join(known)}."
      )
  jobs = [job for job in jobs if job.cell in (cells or known)]
  match = re.fullmatch(r"(\d+)/(\d+)", share or "1/1")
  number, count = map(int, match.groups()) if match else (0, 0)
  if not 0 < number <= count <= len(jobs):
    raise errors.UserError(
      f"--share={share} is not a share of {len(jobs)} runs: give N/M, such as "
      f"2/3, with N from 1 to M and M at most {len(jobs)}."
    )
  return jobs[number - 1 :: count]
