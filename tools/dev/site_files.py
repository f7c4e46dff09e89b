"""The files of the site of the documents, for mkdocs (mkdocs.yml).

The site has the repository's own paths, so that the links of a page lead to the
same place on both.
"""

import pathlib
import re

from mkdocs.structure.files import File, Files

_PATTERNS = (
  *("*.md", "docs/**/*.*"),
  *("hypergrid_mtf/**/*.py", "results/*/*.csv"),
)


def on_files(files, config):
  """The documents, the sources, and a page for each module of the API."""
  root = pathlib.Path(config.config_file_path).parent
  places = (str(root), config.site_dir, config.use_directory_urls)
  found = [file for file in files if file.src_dir != config.docs_dir]
  for path in (p for pattern in _PATTERNS for p in root.glob(pattern)):
    found.append(File(path.relative_to(root).as_posix(), *places))
  for module in re.findall(r"api/([\w.]+)\.md", str(config.nav)):
    text = f"::: {module}"
    found.append(File.generated(config, f"api/{module}.md", content=text))
  return Files(found)
