"""Tables put in their places in a document, such as docs/results.md."""

import os
import re

import pandas as pd

from hypergrid_mtf import errors
from tools.experiments import render


def update(text: str, results_path: str, made: dict[str, pd.DataFrame]) -> str:
  """Puts tables in their places in a document.

  Args:
    text: with places such as `<!-- RESULTS: scores_last -->`, RESULTS being
      the path as it is given to --results; a place ends with `<!-- end -->`.
    results_path: of the results that the tables are of.
    made: from `render.tables`.

  Returns:
    the document with new tables in these places

  Raises:
    UserError: if there is no place, or one for a table that was not made.
  """

  def table(match):
    name = match[2]
    if name not in made:
      raise errors.UserError(
        f"there is a place for {results_path}: {name}, and the tables are "
        f"{', '.join(made)}."
      )
    return f"{match[1]}\n\n{render.to_markdown(made[name])}\n\n<!-- end -->"

  return places(text, results_path).sub(table, text)


def places(text: str, results_path: str) -> re.Pattern:
  """Matches a place of these results, of which the document has some."""
  path = re.escape(results_path.rstrip("/"))
  place = re.compile(rf"(<!-- {path}/?: (\w+) -->).*?<!-- end -->", re.S)
  if not place.search(text):
    raise errors.UserError(
      f"the document has no place <!-- {results_path}: scores_last -->."
    )
  return place


def read(document: str) -> str:
  if not os.path.isfile(document):
    raise errors.UserError(f"--update={document} is not a file.")
  with open(document) as f:
    return f.read()
