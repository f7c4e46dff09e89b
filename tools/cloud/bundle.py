"""What is brought to a TPU VM: this project, and modules of the user's own."""

import os
import tarfile

from tools.cloud import kinds

ROOT = os.path.dirname(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
# What a run needs, and what says what it is.
PARTS = (
  "Makefile",
  "README.md",
  "LICENSE",
  "pyproject.toml",
  "requirements.txt",
  "requirements-tpu-pod.txt",
  "hypergrid_mtf",
  "operative_configs",
  "t5_tasks",
  "tools",
)


def write(path: str, more: list[str]) -> None:
  """Writes the archive; its files are those of the checkout as they are now.

  Args:
    path: of the .tar.gz to write.
    more: files or folders of the user's own, e.g. a module with tasks; they
      come to stand beside the packages.

  Raises:
    UserError: for one that is not there.
  """

  def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(member.name)
    return None if name == "__pycache__" else member

  with tarfile.open(path, "w:gz") as archive:
    for part in PARTS:
      archive.add(os.path.join(ROOT, part), part, filter=wanted)
    for own in more:
      if not os.path.exists(own):
        raise kinds.UserError(f"--add={own} is not there.")
      archive.add(own, os.path.basename(os.path.normpath(own)), filter=wanted)
