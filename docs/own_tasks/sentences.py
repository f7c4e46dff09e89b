"""Four tasks of one sentence each, as a user adds tasks of their own.

    PYTHONPATH=docs/own_tasks SENTENCES_DIR=sentences \\
      python -m hypergrid_mtf.main --module_import=sentences …

$SENTENCES_DIR has a folder for each task with `train.tsv`, `validation.tsv` and
`test.tsv`, lines of `text<TAB>label` without a header: SUBJ (Pang and Lee,
2004), CR (Hu and Liu, 2004), MPQA (Wiebe et al., 2005), TREC (Li and Roth,
2002). The public repository harvardnlp/sent-conv-torch has their texts.
"""

import functools
import os

import seqio
from t5.data import preprocessors
from t5.data.tasks import DEFAULT_OUTPUT_FEATURES
from t5.evaluation import metrics

FOLDER = os.environ.get("SENTENCES_DIR", "sentences")
# Training examples: the tasks' rates in a mixture.
TASKS = {"subj": 7984, "cr": 3021, "mpqa": 6525, "trec": 4852}


def _add_prefix(dataset, name: str):
  """`subj sentence: …`, as T5's GLUE tasks begin with their names."""
  return dataset.map(
    lambda example: {
      "inputs": f"{name} sentence: " + example["inputs"],
      "targets": example["targets"],
    }
  )


for _name, _count in TASKS.items():
  seqio.TaskRegistry.add(
    f"sentences_{_name}",
    source=seqio.TextLineDataSource(
      {
        split: os.path.join(FOLDER, _name.upper(), f"{split}.tsv")
        for split in ("train", "validation", "test")
      },
      num_input_examples={"train": _count},
    ),
    preprocessors=[
      preprocessors.parse_tsv,
      functools.partial(_add_prefix, name=_name),
      seqio.preprocessors.tokenize,
      seqio.CacheDatasetPlaceholder(),
      seqio.preprocessors.append_eos_after_trim,
    ],
    output_features=dict(DEFAULT_OUTPUT_FEATURES),
    metric_fns=[metrics.accuracy],
  )
