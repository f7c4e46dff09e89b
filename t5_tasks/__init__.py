"""SeqIO tasks and mixtures; importing this package registers all of them.

From t5: the tasks of GLUE and SuperGLUE and their mixtures. From here: both
benchmarks in one mixture (`mixtures`), eight small tasks that need no download
(`embedded`), and every one of these with a reserved token in front of its
inputs (`task_tokens`). `vocabularies` puts another vocabulary in place of T5's,
`plain_text` makes a task to pretrain on of the user's own text, `table` one of
the user's own pairs.
"""

import hypergrid_mtf  # noqa: F401  (patches the stack before t5 is imported)
from t5_tasks import (
  embedded,
  mixtures,
  plain_text,
  table,
  task_tokens,
  vocabularies,
)

__all__ = [
  "define_from_gin",
  "embedded",
  "mixtures",
  "plain_text",
  "table",
  "task_tokens",
  "vocabularies",
]


def define_from_gin() -> None:
  """Registers the tasks and the mixture that gin bindings describe.

  Raises:
    UserError: for bindings that describe none.
  """
  plain_text.define_task()
  table.define_table()
  mixtures.define_mixture()  # may name those tasks
