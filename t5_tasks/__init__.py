"""SeqIO tasks and mixtures; importing this package registers all of them.

t5 provides the tasks and mixtures of GLUE and SuperGLUE. This package adds a
mixture of both benchmarks (`mixtures`), eight small tasks that need no download
(`embedded`), and a variant of every task with a reserved token in front of its
inputs (`task_tokens`). `vocabularies` replaces T5's vocabulary, `plain_text`
makes a pretraining task from the user's text, and `table` a task from the
user's pairs.
"""

import hypergrid_mtf  # noqa: F401  (patches the stack before t5 is imported)
from t5_tasks import (  # noqa: F401  (registers them)
  embedded,
  mixtures,
  plain_text,
  table,
  task_tokens,
  vocabularies,
)


def define_from_gin() -> None:
  """Registers the tasks and the mixture described by gin bindings.

  Raises:
    UserError: for bindings that do not describe one.
  """
  plain_text.define_task()
  table.define_table()
  mixtures.define_mixture()  # may contain those tasks
