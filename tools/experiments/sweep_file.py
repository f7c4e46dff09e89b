"""The files that describe a sweep, and the runs that they name."""

import collections
import dataclasses
import functools
import os
import re
import shlex
import string
from collections.abc import Iterator, Sequence

import gin

from hypergrid_mtf import errors
from hypergrid_mtf.run import gin_files, gin_model

SWEEPS = os.path.join(gin_files.folder(), "sweeps")
_GOES_ON = "\0"
_SPLIT = "run.dataset_split"
_SHARED = ("train", "eval")
_LINE = re.compile(
  r"(?P<name>[^:\s]+)(?: for (?P<var>\w+) in (?P<values>[^:]+))?:"
  r"(?P<flags>.*)"
)


@dataclasses.dataclass(frozen=True)
class Run:
  """One model with one seed.

  Attributes:
    name: of its line, e.g. "L2" or "single/glue_rte_v002".
    seed: given as --seed.
    flags: of its training and its evaluation.
    eval_flags: of its evaluation, after `flags`.
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
    """As a file name can have it."""
    return f"{self.name.replace('/', '-')}-seed{self.seed}"


def find(name: str) -> str:
  """The path of a sweep, by its path or by its name in operative_configs."""
  for path in (name, os.path.join(SWEEPS, name)):
    if os.path.isfile(path):
      return path
  known = sorted(os.listdir(SWEEPS)) if os.path.isdir(SWEEPS) else []
  raise errors.UserError(
    f"--sweep={name} is not a file, and operative_configs/sweeps has "
    f"{', '.join(known) or 'none'}."
  )


def read(path: str) -> str:
  """The text of a sweep.

  Args:
    path: from `find`.

  Returns:
    text

  Raises:
    UserError: if it is not UTF-8.
  """
  try:
    with open(path, encoding="utf-8") as f:
      return f.read()
  except (OSError, UnicodeDecodeError) as e:
    raise errors.UserError(f"--sweep={path} cannot be read: {e}.") from None


def parse(
  text: str, where: str, seeds: list[int], given: dict[str, str]
) -> list[Run]:
  """The runs of a sweep.

  Args:
    text: of the file.
    where: its path, for messages.
    seeds: one run each.
    given: {WORD: text} of --set.

  Returns:
    runs, all names of the first seed first

  Raises:
    UserError: naming file and line.
  """
  shared: dict[str, tuple[str, ...]] = dict.fromkeys(_SHARED, ())
  usual: dict[str, str] = {}
  lines: dict[str, tuple[str, ...]] = {}
  for number, line in _lines(text):
    if not line.strip() or line.lstrip().startswith("#"):
      continue
    at = f"{where}, line {number}"
    match = _LINE.fullmatch(line.strip())
    if not match:
      raise errors.UserError(
        f"{at}: {line.strip()!r} is not a line of a sweep: write NAME: FLAGS, "
        "or NAME for WORD in VALUES: FLAGS."
      )
    if match["name"] == "set":
      usual.update(word_and_text(w, at) for w in shlex.split(match["flags"]))
      continue
    for value in (match["values"] or "").split() or [None]:
      words = {**usual, **given}
      if match["var"]:
        words[match["var"]] = value
      name = _substitute(match["name"], words, at)
      parts = tuple(
        _substitute(part, words, at) for part in split_flags(match["flags"], at)
      )
      if name in lines or shared.get(name):
        raise errors.UserError(f"{at}: {name!r} is there twice.")
      if name in shared:
        shared[name] = parts
      else:
        lines[name] = parts
  if not lines:
    raise errors.UserError(f"{where} names no model to run.")
  return [
    Run(name, seed, shared["train"] + parts, shared["eval"])
    for seed in seeds
    for name, parts in lines.items()
  ]


def _lines(text: str) -> Iterator[tuple[int, str]]:
  """(number, line), one that goes on after a backslash by its first number."""
  number = 1
  # Only a newline ends a line: str.splitlines also breaks a name at U+2028.
  for line in text.replace("\\\n", _GOES_ON).split("\n"):
    yield number, line.replace(_GOES_ON, " ")
    number += 1 + line.count(_GOES_ON)


def word_and_text(pair: str, where: str) -> tuple[str, str]:
  """WORD=TEXT as its two parts."""
  word, equals, text = pair.partition("=")
  if not equals or not word.isidentifier():
    raise errors.UserError(f"{where}: {pair!r} is not WORD=TEXT.")
  return word, text


def split_flags(text: str, at: str) -> list[str]:
  """Flags in a line, as a shell would split them."""
  try:
    parts = shlex.split(text)
  except ValueError as e:
    raise errors.UserError(f"{at}: {e}.") from None
  for part in parts:
    if not part.startswith("--"):
      raise errors.UserError(
        f"{at}: {part!r} is not a flag: every option begins with --, and one "
        "with spaces is quoted."
      )
  return parts


def _substitute(text: str, words: dict[str, str], at: str) -> str:
  try:
    return string.Template(text).substitute(words)
  except KeyError as e:
    raise errors.UserError(
      f"{at}: ${e.args[0]} is not known: give it with --set={e.args[0]}=TEXT."
    ) from None
  except ValueError as e:
    raise errors.UserError(f"{at}: {e}.") from None


def of_cells(runs: list[Run], cells: list[str]) -> list[Run]:
  """The runs of some cells.

  Args:
    runs: of a sweep.
    cells: their names; none means all.

  Returns:
    those runs

  Raises:
    UserError: for a cell that the sweep does not have.
  """
  known = dict.fromkeys(run.cell for run in runs)
  for cell in cells:
    if cell not in known:
      raise errors.UserError(
        f"--cells={cell} is not in the sweep, which has {', '.join(known)}."
      )
  return [run for run in runs if not cells or run.cell in cells]


def of_share(runs: list[Run], share: str) -> list[Run]:
  """The part of the runs that one of several machines does.

  Args:
    runs: of a sweep, in its order.
    share: "2/3" for the second of three; "" means all.

  Returns:
    every third one, from the second; the shares have no run in common

  Raises:
    UserError: for what is not a share, or one without a run.
  """
  if not share:
    return runs
  match = re.fullmatch(r"(\d+)/(\d+)", share)
  number, of = (int(match[1]), int(match[2])) if match else (0, 0)
  if not 0 < number <= of:
    raise errors.UserError(
      f"--share={share} is not a share: give N/M with N from 1 to M, such as "
      "2/3."
    )
  if of > len(runs):
    raise errors.UserError(
      f"--share={share} is one of {of} shares of {len(runs)} runs: give no "
      "more shares than runs."
    )
  return runs[number - 1 :: of]


@functools.cache
def evaluated_split(flags: tuple[str, ...]) -> str:
  """The split that an evaluation will be of, as its program will read flags.

  Args:
    flags: of hypergrid_mtf.main, those of the evaluation among them.

  Returns:
    its name

  Raises:
    UserError: if gin cannot read them, which is better known before a training.
  """
  given = collections.defaultdict(list)
  for flag in flags:
    name, _, value = flag.lstrip("-").partition("=")
    given[name].append(value)
  gin_files.add_search_paths()
  for prefix in given["gin_location_prefix"]:
    gin.add_config_file_search_path(prefix)
  try:
    gin_model.parse(given["gin_file"], given["gin_param"], skip_unknown=True)
    return gin_files.value(_SPLIT, "train")
  finally:
    gin.clear_config()


def with_split(run: Run, split: str, common: Sequence[str]) -> Run:
  """A run that is evaluated on another split than its sweep says.

  Args:
    run: of a sweep.
    split: from --split.
    common: from --common.

  Returns:
    a Run; the same where its flags say this split
  """
  flags = (*common, *run.flags, *run.eval_flags)
  if evaluated_split(flags) == split:
    return run
  flag = f"--gin_param={_SPLIT} = {split!r}"
  return dataclasses.replace(run, eval_flags=(*run.eval_flags, flag))
