"""The lock, and the part of it that is installed around an image's TensorFlow.

An entry of requirements.txt is kept as it is written, with its hashes.
"""

import dataclasses
import re
from collections.abc import Mapping

TENSORFLOW = "tensorflow"
# Of the same package under other names; each holds the folder `tensorflow`.
TENSORFLOWS = (
  "tensorflow",
  "tensorflow-tpu",
  "tensorflow-cpu",
  "tf-nightly",
  "tf-nightly-tpu",
  "tf-nightly-cpu",
)
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)")
_PARENT = re.compile(r"#\s+(?:via\s+)?(\S.*)")


@dataclasses.dataclass(frozen=True)
class Entry:
  """One pin of the lock.

  Attributes:
    name: normalized.
    version: as it is pinned.
    text: its lines, hashes included.
    parents: names of the packages that asked for it; "-r …" for our own list.
  """

  name: str
  version: str
  text: str
  parents: tuple[str, ...]


def normalized(name: str) -> str:
  """A package's name as the index compares it."""
  return re.sub(r"[-_.]+", "-", name).lower()


def read(text: str) -> list[Entry]:
  """The entries of a lock that uv wrote.

  Args:
    text: of requirements.txt.

  Returns:
    they, in the order of the file; a package may have two, with markers
  """
  blocks: list[list[str]] = []
  for line in text.splitlines():
    if _PIN.match(line):
      blocks.append([line])
    elif blocks and line.startswith(" "):
      blocks[-1].append(line)
  found = []
  for block in blocks:
    pin = _PIN.match(block[0])
    assert pin  # a block begins with one
    parents = []
    for line in block[1:]:
      match = _PARENT.match(line.strip())
      if match and match[1] != "via":
        parents.append(match[1])
    found.append(
      Entry(normalized(pin[1]), pin[2], "\n".join(block), tuple(parents))
    )
  return found


def around(
  entries: list[Entry], there: Mapping[str, str], breaks: set[str]
) -> tuple[list[Entry], dict[str, str]]:
  """What to install where a TensorFlow is that must stay.

  Left out are TensorFlow, and, where the image has them, the packages that
  nothing but TensorFlow asks for: they are the ones that it came with. What
  others need too is installed at the version of the lock, which all of them
  were tested with, unless the image's TensorFlow does not take it.

  Args:
    entries: from `read`.
    there: {name: version} of what the image has.
    breaks: names whose version in the lock the image's TensorFlow refuses.

  Returns:
    the entries to install, and {name: why} of those left out
  """
  tensorflow_only = {TENSORFLOW}
  names = {entry.name for entry in entries}
  parents = {
    name: {p for e in entries if e.name == name for p in e.parents}
    for name in names
  }
  grown = True
  while grown:
    more = {
      name
      for name in names - tensorflow_only
      if parents[name] and parents[name] <= tensorflow_only
    }
    grown = bool(more)
    tensorflow_only |= more
  kept, out = [], {}
  for entry in entries:
    if entry.name in (*TENSORFLOWS, "tensorflow-macos", "tensorflow-intel"):
      out[entry.name] = "is the image's"
    elif entry.name in tensorflow_only and entry.name in there:
      out[entry.name] = "only TensorFlow needs it"
    elif entry.name in breaks and entry.name in there:
      out[entry.name] = f"TensorFlow does not take {entry.version}"
    else:
      kept.append(entry)
  return kept, out


def to_text(entries: list[Entry]) -> str:
  """A requirements file of some entries."""
  return "\n".join(entry.text for entry in entries) + "\n"
