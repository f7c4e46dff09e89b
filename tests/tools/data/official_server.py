"""Official downloads, made of a folder of files, for a local server."""

import hashlib
import io
import pathlib
import urllib.parse
import zipfile

from tensorflow_datasets.core.download import checksums

from tools.data import official_files

MIRROR = "https://dl.fbaipublicfiles.com"


def archives(root: pathlib.Path) -> dict[str, bytes]:
  """Bytes by TFDS's address, in the layout of the official files.

  Args:
    root: with the folders glue and super_glue; what is missing there is left
      out.
  """
  found = {}
  for file in official_files.official_files():
    folder = root / file.benchmark / file.folder
    if not file.is_archive:
      path = folder / file.name.replace("mrpc_dev_ids", "dev_ids")
      if path.is_file():
        found[file.url] = path.read_bytes()
      continue
    if not folder.is_dir():
      continue
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
      # Each begins with the folder itself, and has what nobody reads.
      archive.writestr(f"{file.folder}/", b"")
      archive.writestr(f"{file.folder}/original/raw.txt", b"raw")
      archive.writestr(f"__MACOSX/{file.folder}/._train.tsv", b"finder")
      for path in sorted(folder.iterdir()):
        archive.write(path, f"{file.folder}/{path.name}")
    found[file.url] = content.getvalue()
  return found


def infos(contents: dict[str, bytes]) -> dict[str, checksums.UrlInfo]:
  """Sizes and hashes as TFDS has them."""
  return {
    url: checksums.UrlInfo(
      size=len(content),
      checksum=hashlib.sha256(content).hexdigest(),
      filename=None,
    )
    for url, content in contents.items()
  }


def paths(contents: dict[str, bytes]) -> dict[str, bytes]:
  """The same bytes by the path below a mirror."""
  by_url = {file.url: file for file in official_files.official_files()}
  return {
    urllib.parse.urlsplit(by_url[url].urls(MIRROR)[0]).path: content
    for url, content in contents.items()
  }


def list_of_checksums(contents: dict[str, bytes]) -> str:
  """The text of a --checksums file."""
  return "".join(
    f"{url}\t{info.size}\t{info.checksum}\tx\n"
    for url, info in infos(contents).items()
  )
