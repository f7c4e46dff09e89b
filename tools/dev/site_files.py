"""The files of the site of the documents, for mkdocs (mkdocs.yml).

The site has the repository's own paths, so that the links of a page lead to the
same place on both.
"""

import json
import pathlib
import re

from mkdocs.structure.files import File, Files

_PATTERNS = (
  *("*.md", "docs/**/*.*"),
  *("hypergrid_mtf/**/*.py", "results/*/*.csv"),
)


def _cells(notebook):
  """Its cells and their outputs, in Markdown."""
  for cell in json.loads(notebook.read_text())["cells"]:
    source = "".join(cell["source"])
    code = cell["cell_type"] == "code"
    yield f"```python\n{source}\n```" if code else source
    for output in cell.get("outputs", ()):
      data = output.get("data", output)
      if "image/png" in data:
        yield f"![](data:image/png;base64,{''.join(data['image/png']).strip()})"
      else:
        text = "".join(data.get("text/plain", data.get("text", ())))
        yield f"```text\n{text.rstrip()}\n```"


def on_files(files, config):
  """The documents, the sources, and a page for each module of the API."""
  root = pathlib.Path(config.config_file_path).parent
  places = (str(root), config.site_dir, config.use_directory_urls)
  found = [file for file in files if file.src_dir != config.docs_dir]
  for path in (p for pattern in _PATTERNS for p in root.glob(pattern)):
    found.append(File(path.relative_to(root).as_posix(), *places))
  for path in root.glob("docs/*.ipynb"):
    uri, text = f"docs/{path.stem}.md", "\n\n".join(_cells(path))
    found.append(File.generated(config, uri, content=text))
  for module in re.findall(r"api/([\w.]+)\.md", str(config.nav)):
    text = f"::: {module}"
    found.append(File.generated(config, f"api/{module}.md", content=text))
  return Files(found)


def on_page_markdown(markdown, **_):
  """Links to a notebook lead to its page."""
  return markdown.replace(".ipynb)", ".md)")
