"""Reads the SuperGLUE download into the examples of TFDS's `super_glue`.

Field names, label ids and `idx` are those of
`tensorflow_datasets/text/super_glue.py`: MultiRC gives an example for each
answer, ReCoRD one for each query, and `wsc.fixed` is WSC with the spans mended
so that they are parts of the text.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from tools.data import local_text

VERSION = "1.0.2"

Example = dict[str, Any]
# Line number, TFDS key, example.
Row = tuple[int, int | str, Example]


@dataclasses.dataclass(frozen=True)
class Config:
  """How a TFDS config of SuperGLUE lies in its files.

  Attributes:
    folder: names of its folder, compared without case and punctuation.
    text: the keys of text features.
    integers: the keys of whole-number features.
    classes: label names in the order of their ids; empty: no label feature.
    files: file names by split; of several names the first that is there.
  """

  folder: tuple[str, ...]
  text: tuple[str, ...]
  integers: tuple[str, ...] = ()
  classes: tuple[str, ...] = ("False", "True")
  files: Mapping[str, tuple[str, ...]] = dataclasses.field(
    default_factory=lambda: {
      "train": ("train.jsonl",),
      "validation": ("val.jsonl",),
      "test": ("test.jsonl",),
    }
  )


_ENTAILMENT = ("entailment", "not_entailment")
_WSC = Config(
  ("wsc",),
  ("text", "span1_text", "span2_text"),
  ("span1_index", "span2_index"),
)

CONFIGS: dict[str, Config] = {
  "boolq": Config(("boolq",), ("question", "passage")),
  "cb": Config(
    ("cb", "commitmentbank"),
    ("premise", "hypothesis"),
    classes=("entailment", "contradiction", "neutral"),
  ),
  "copa": Config(
    ("copa",),
    ("premise", "choice1", "choice2", "question"),
    classes=("choice1", "choice2"),
  ),
  "multirc": Config(("multirc",), ("paragraph", "question", "answer")),
  "record": Config(("record",), ("passage", "query"), classes=()),
  "rte": Config(("rte",), ("premise", "hypothesis"), classes=_ENTAILMENT),
  "wic": Config(
    ("wic",),
    ("word", "sentence1", "sentence2"),
    ("start1", "start2", "end1", "end2"),
  ),
  "wsc": _WSC,
  "wsc.fixed": _WSC,
  "axb": Config(
    ("axb",),
    ("sentence1", "sentence2"),
    classes=_ENTAILMENT,
    files={"test": ("AX-b.jsonl", "AXb.jsonl")},
  ),
  "axg": Config(
    ("axg",),
    ("premise", "hypothesis"),
    classes=_ENTAILMENT,
    files={"test": ("AX-g.jsonl", "AXg.jsonl")},
  ),
}


def find_files(config: str, folder: str) -> dict[str, str | None]:
  """The file of each split of a config, None where it is missing."""
  there = local_text.files_of(folder)
  return {
    split: next(
      (there[n.casefold()] for n in names if n.casefold() in there), None
    )
    for split, names in CONFIGS[config].files.items()
  }


def read_split(
  config: str, split: str, files: Mapping[str, str | None]
) -> Iterator[Row]:
  """Yields line number, key and example of one split, in the file's order.

  Args:
    config: a key of CONFIGS.
    split: a split of that config that has a file.
    files: the answer of `find_files`.

  Raises:
    UserError: names the file and line of a row that is not right.
  """
  path = files[split]
  read = {"multirc": _multirc, "record": _record}.get(config, _flat)
  seen: dict[int | str, int] = {}
  for line, value in local_text.read_objects(path):
    row = local_text.Field(path, line, value)
    for key, example in read(config, row, is_test=split == "test"):
      if key in seen:
        row.fail(f"the idx {key} is already in line {seen[key]}")
      seen[key] = line
      yield line, key, example
  if not seen:
    local_text.fail(path, None, "the file has no questions; expected some")


def _flat(
  config: str, row: local_text.Field, is_test: bool
) -> Iterator[tuple[int, Example]]:
  """One example a line."""
  spec = CONFIGS[config]
  source = dict.fromkeys((*spec.text, *spec.integers), row)
  if spec is _WSC:  # Everything but the text is one level down.
    source = dict.fromkeys(source, row.child("target")) | {"text": row}
  example: Example = {key: source[key].text(key) for key in spec.text}
  example |= {key: source[key].integer(key) for key in spec.integers}
  if config == "wsc.fixed":
    example = _fixed_spans(example, row)
  example["idx"] = row.integer("idx")
  example["label"] = _label(row, spec.classes, is_test)
  yield example["idx"], example


def _multirc(
  config: str, row: local_text.Field, is_test: bool
) -> Iterator[tuple[str, Example]]:
  """One example for each answer to each question of a line."""
  passage = row.child("passage")
  paragraph, paragraph_idx = passage.text("text"), row.integer("idx")
  for question in passage.children("questions"):
    question_idx = question.integer("idx")
    for answer in question.children("answers"):
      answer_idx = answer.integer("idx")
      yield (
        f"{paragraph_idx}_{question_idx}_{answer_idx}",
        {
          "paragraph": paragraph,
          "question": question.text("question"),
          "answer": answer.text("text"),
          "label": _label(answer, CONFIGS[config].classes, is_test),
          "idx": {
            "paragraph": paragraph_idx,
            "question": question_idx,
            "answer": answer_idx,
          },
        },
      )


def _record(
  config: str, row: local_text.Field, is_test: bool
) -> Iterator[tuple[int, Example]]:
  """One example for each query of a line; entities and answers without doubles.

  Entities are the texts from `start` up to and with `end`, in the passage.
  """
  del config
  passage = row.child("passage")
  text = passage.text("text")
  entities = set()
  for entity in passage.children("entities"):
    start, end = entity.integer("start"), entity.integer("end")
    if not 0 <= start <= end < len(text):
      row.fail(
        f"an entity goes from {start} to {end}, expected places in the "
        f"passage, which has {len(text)} characters"
      )
    entities.add(text[start : end + 1])
  for query in row.children("qas"):
    has_answers = not is_test or "answers" in query.value
    answers = query.children("answers") if has_answers else []
    idx = query.integer("idx")
    yield (
      idx,
      {
        "passage": text,
        "query": query.text("query"),
        "entities": sorted(entities),
        "answers": sorted({answer.text("text") for answer in answers}),
        "idx": {"passage": row.integer("idx"), "query": idx},
      },
    )


def _label(
  row: local_text.Field, classes: tuple[str, ...], is_test: bool
) -> int:
  """The label's id; -1 where a test file gives none, as in TFDS."""
  if is_test and row.value.get("label", -1) in (None, -1):
    return -1
  if "label" not in row.value:
    row.fail(f"the key 'label' is missing; expected {_known(classes)}")
  found = row.value["label"]
  if isinstance(found, str) and found in classes:
    return classes.index(found)
  # A Boolean, or its number, stands for the second of two classes.
  if isinstance(found, int) and found in (0, 1) and len(classes) == 2:
    return int(found)
  row.fail(
    f"the label is {local_text.shown(found)}, expected {_known(classes)}"
  )


def _known(classes: tuple[str, ...]) -> str:
  if classes == ("False", "True"):
    return "true or false"
  if classes == ("choice1", "choice2"):
    return "0 or 1"
  return "one of " + ", ".join(classes)


def _fixed_spans(example: Example, row: local_text.Field) -> Example:
  """What `wsc.fixed` makes of an example, by TFDS's own rules for it."""
  from tensorflow_datasets.text import super_glue

  try:
    return super_glue._fix_wst(example)  # pylint: disable=protected-access
  except (AssertionError, IndexError):
    row.fail(
      f"the spans {local_text.shown(example['span1_text'])} and "
      f"{local_text.shown(example['span2_text'])}, expected parts of the text"
    )
