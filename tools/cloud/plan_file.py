"""What is asked of some TPUs and how far they are, in one small file.

The file is written whole after every step, so that the program can be killed
and started again.
"""

import dataclasses
import json
import os
import tempfile
import threading

from tools.cloud import kinds


@dataclasses.dataclass
class Plan:
  """What is asked for. The fields are flags of `tools.tpu`.

  Attributes:
    name: of the TPU, or the beginning of the names of several.
    arguments: flags of the program.
  """

  name: str
  zone: str
  accelerator_type: str
  image: str
  gs_dir: str
  arguments: list[str]
  project: str = ""
  spot: bool = False
  queued: bool = False
  valid_until_duration: str = ""
  sweep: bool = False
  tpus: int = 1
  then: list[str] = dataclasses.field(default_factory=list)
  add: list[str] = dataclasses.field(default_factory=list)

  @property
  def names(self) -> list[str]:
    """Of all TPUs."""
    if self.tpus == 1:
      return [self.name]
    return [f"{self.name}-{n}" for n in range(1, self.tpus + 1)]


@dataclasses.dataclass
class Node:
  """How far one TPU is.

  Attributes:
    asked: whether one was asked for, so that it, or its queue, may be there.
    since: from when it is counted, seconds of the epoch; None while it waits.
    hours: that earlier ones of its name were there.
    installed: whether this one has the project.
    job: number of the job that was started last; 0 is none.
    running: whether that job was started on this one.
    offset: bytes of the job's log that were shown.
    taken: how often it was taken away.
    ended: exit status of the job, once there is one.
    fetched: whether the results are here.
    error: what stopped it.
  """

  asked: bool = False
  since: float | None = None
  hours: float = 0.0
  installed: bool = False
  job: int = 0
  running: bool = False
  offset: int = 0
  taken: int = 0
  ended: int | None = None
  fetched: bool = False
  error: str = ""


class Record:
  """The plan and its TPUs, kept in a file."""

  def __init__(self, path: str, plan: Plan, nodes: dict[str, Node]):
    """Creates the record.

    Args:
      path: of the file; "" keeps nothing.
      plan: what is asked for.
      nodes: by name.
    """
    self.path = path
    self.plan = plan
    self.nodes = nodes
    self._lock = threading.Lock()

  def save(self) -> None:
    """Writes the file whole."""
    if not self.path:
      return
    with self._lock:
      content = dict(
        plan=dataclasses.asdict(self.plan),
        nodes={name: dataclasses.asdict(n) for name, n in self.nodes.items()},
      )
      folder = os.path.dirname(self.path) or "."
      os.makedirs(folder, exist_ok=True)
      handle, part = tempfile.mkstemp(dir=folder, prefix=".part-")
      with os.fdopen(handle, "w", encoding="utf-8") as f:
        json.dump(content, f, indent=1)
        f.flush()
        os.fsync(f.fileno())
      os.replace(part, self.path)


def path_of(folder: str, name: str) -> str:
  """Where the file of a name is."""
  return os.path.join(folder, f"{name}.json")


def read(path: str) -> Record | None:
  """The record of a file.

  Args:
    path: from `path_of`.

  Returns:
    it; None if there is no file

  Raises:
    UserError: if it cannot be read.
  """
  try:
    with open(path, encoding="utf-8") as f:
      content = json.load(f)
    plan = Plan(**content["plan"])
    nodes = {name: Node(**node) for name, node in content["nodes"].items()}
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise kinds.UserError(
      f"{path} cannot be read ({e}): see with gcloud compute tpus tpu-vm list "
      "what is there, delete it, and remove the file."
    ) from None
  return Record(path, plan, nodes)


def hours(node: Node, now: float) -> float:
  """Hours that TPUs of a name were there, up to now."""
  return node.hours + (now - node.since if node.since else 0) / 3600


def cost(node_hours: float, price: float | None) -> str:
  """Hours and, where a price is given, money, in words."""
  text = f"{node_hours:.2f} h"
  if price is None:
    return f"{text} (--price_per_hour says what that costs)"
  return f"{text}, {node_hours * price:.2f} at {price:g} an hour"
