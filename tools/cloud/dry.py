"""What a dry run takes for the answers of `gcloud`: all goes well."""

import json
from collections.abc import Sequence

from tools.cloud import commands, on_tpu


class Answers:
  """Remembers what was made."""

  def __init__(self):
    self._there: set[str] = set()

  def __call__(self, arguments: Sequence[str]) -> str:
    """The output of a command.

    Args:
      arguments: after "gcloud".
    """
    what, name = arguments[3] if len(arguments) > 3 else "", ""
    if what in ("create", "delete", "describe", "ssh"):
      name = arguments[4].removesuffix("-queue")
    if what == "create":
      self._there.add(name)
    elif what == "delete":
      self._there.discard(name)
    elif what == "describe":
      if name not in self._there:
        return "null"
      if list(arguments[:3]) == commands.QUEUE:
        return json.dumps({"state": {"state": "ACTIVE"}})
      return json.dumps({"state": "READY"})
    elif what == "ssh":
      report = dict(running=False, status=0, saved=True, text="", offset=0)
      return on_tpu.MARK + json.dumps(report)
    return ""
