"""Reads the SuperGLUE download into the examples of TFDS's `super_glue`.

Field names, label ids and `idx` are those of
`tensorflow_datasets/text/super_glue.py`: MultiRC gives an example for each
answer, ReCoRD one for each query, and `wsc.fixed` is WSC with corrected spans
so that they are parts of the text. What t5's preprocessors and metrics take for
granted beyond that is checked here, where the file and the line are known.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tools.data import local_text

VERSION = "1.0.2"

Example = dict[str, Any]
# Line number, TFDS key, example.
Row = tuple[int, int | str, Example]


_TRUTH = ("False", "True")
_CHOICES = ("choice1", "choice2")
# The classes that a file may give as false and true.
_BY_TRUTH = (_TRUTH, _CHOICES)


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
  classes: tuple[str, ...] = _TRUTH
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
    classes=_CHOICES,
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


def why_missing(config: str, folder: str) -> str | None:
  """As of `local_glue`; no split here needs more than its own file."""
  del config, folder
  return None


def read_split(
  config: str,
  split: str,
  path: str,
  note: Callable[[str], None] | None = None,
) -> Iterator[Row]:
  """Yields line number, key and example of one split, in the file's order.

  Args:
    config: a key of CONFIGS.
    split: of that config.
    path: the split's file, from `find_files`.
    note: takes a sentence about rows that are read, but look odd.

  Raises:
    UserError: names the file and line of a row that is not right.
  """
  read = {"multirc": _multirc, "record": _record}.get(config, _flat)
  renumber = _renumbering(path, split, note) if config == "multirc" else {}
  odd = local_text.Oddities(path)
  seen: dict[int | str, int] = {}
  for line, value in local_text.read_objects(path):
    row = local_text.Field(path, line, value)
    for key, example in read(config, row, is_test=split == "test"):
      if key in seen:
        row.fail(
          f"the idx {key} is already in line {seen[key]}, expected each once "
          "in a file"
        )
      seen[key] = line
      if config == "wsc.fixed" and (split != "train" or example["label"]):
        # Of the training rows, t5 reads only those whose label is true.
        _check_pronoun(example, row)
      if renumber:
        idx = example["idx"]
        idx["question"] = renumber[idx["paragraph"], idx["question"]]
      _note_odd(odd, line, config, example)
      yield line, key, example
  odd.say(note)
  if not seen:
    local_text.fail(path, None, "the file has no questions; expected some")


def _note_odd(
  odd: local_text.Oddities, line: int, config: str, example: Example
) -> None:
  """Counts what t5 reads all the same."""
  for key, value in example.items():
    if isinstance(value, str) and not value.strip():
      odd.add(line, f"have an empty {key!r}")
  if config == "wic":  # t5 does not read the places.
    for k in ("1", "2"):
      start, end = example["start" + k], example["end" + k]
      if not 0 <= start < end <= len(example["sentence" + k]):
        odd.add(line, f"have a 'start{k}' and 'end{k}' outside 'sentence{k}'")
  if config == "record":
    if "@placeholder" not in example["query"]:
      odd.add(line, "have no '@placeholder' in the query")
    if not set(example["answers"]) <= set(example["entities"]):
      odd.add(line, "have an answer that is not one of the entities")
  if config == "wsc.fixed" and " X " in example["text"]:
    # t5 writes the pronoun into every X that stands alone.
    odd.add(line, "have an 'X' of their own, which t5 replaces by the pronoun")


def _flat(
  config: str, row: local_text.Field, is_test: bool
) -> Iterator[tuple[int | str, Example]]:
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


def _renumbering(
  path: str, split: str, note: Callable[[str], None] | None
) -> dict[tuple[int, int], int]:
  """Numbers for MultiRC's questions where the file's own are not unique.

  t5's metric groups answers by the number of their question alone. The official
  files number the questions of a file through. In a file that counts anew in
  each paragraph, t5 would take the first questions of all for one.

  Args:
    path: the file.
    split: a test split without labels is not scored; a submission needs its own
      numbers, so these stay.
    note: takes a sentence about the new numbers.

  Returns:
    A number for each (paragraph, question); empty where the file's own serve.
  """
  lines: dict[tuple[int, int], int] = {}
  is_labelled = split != "test"
  for line, value in local_text.read_objects(path):
    row = local_text.Field(path, line, value)
    paragraph = row.integer("idx")
    for question in row.child("passage").children("questions"):
      pair = (paragraph, question.integer("idx"))
      if pair in lines:
        row.fail(
          f"the question idx {pair[1]} of the paragraph idx {paragraph} is "
          f"already in line {lines[pair]}, expected each once"
        )
      lines[pair] = line
      is_labelled |= any(
        answer.value.get("label", -1) not in (None, -1)
        for answer in question.children("answers")
      )
  if not is_labelled or len({q for _, q in lines}) == len(lines):
    return {}
  if note:
    note(
      f"{path}: the questions are not numbered through the file, and t5 groups "
      f"answers by that number; they get the numbers 0 to {len(lines) - 1}"
    )
  return {pair: number for number, pair in enumerate(lines)}


def _multirc(
  config: str, row: local_text.Field, is_test: bool
) -> Iterator[tuple[int | str, Example]]:
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
) -> Iterator[tuple[int | str, Example]]:
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
    if not (answers or is_test):
      query.fail(
        f"{query.place('answers')} is empty, expected one or more: t5 trains "
        "on each, and scores against them"
      )
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
  # The number of one of two classes; true and false where these are meant.
  is_number = isinstance(found, int) and (
    not isinstance(found, bool) or classes in _BY_TRUTH
  )
  if is_number and found in (0, 1) and len(classes) == 2:
    return int(found)
  row.fail(
    f"the label is {local_text.shown(found)}, expected {_known(classes)}"
  )


def _known(classes: tuple[str, ...]) -> str:
  if classes == _TRUTH:
    return "true or false"
  if classes == _CHOICES:
    return "0 or 1"
  return "one of " + ", ".join(classes)


def _fixed_spans(example: Example, row: local_text.Field) -> Example:
  """What `wsc.fixed` makes of an example, by TFDS's own rules for it."""
  from tensorflow_datasets.text import super_glue

  for key in ("span1_text", "span2_text"):
    if not example[key].strip():
      row.fail(f"{key!r} is empty, expected a part of the text")
  try:
    return super_glue._fix_wst(example)  # pylint: disable=protected-access
  except (AssertionError, IndexError):
    row.fail(
      f"the spans {local_text.shown(example['span1_text'])} and "
      f"{local_text.shown(example['span2_text'])}, expected parts of the text"
    )


def _check_pronoun(example: Example, row: local_text.Field) -> None:
  """Fails where t5's `wsc_simple` would stop: it marks the word at an index.

  Args:
    example: of `wsc.fixed`; of other `wsc` t5 has no task.
    row: where it is.
  """
  words = example["text"].split(" ")
  at, pronoun = example["span2_index"], example["span2_text"]
  if "\\" in pronoun:  # t5 would leave an X there, without a word.
    row.fail(
      f"'target.span2_text' is {local_text.shown(pronoun)}, expected a word "
      "without a backslash, which t5 cannot mark"
    )
  if 0 < at < len(words) and words[at] == pronoun:
    return
  if _t5_marks(example):
    return  # It knows two of the official texts by heart.
  if at == 0 and words[0] == pronoun:
    row.fail(
      f"the pronoun {local_text.shown(pronoun)} (span2) is the first word of "
      "the text, where t5 cannot mark it: expected a word before it"
    )
  places = [i for i, word in enumerate(words) if word == pronoun]
  right = (
    "it is " + " and ".join(map(str, places))
    if places
    else "no word is exactly this"
  )
  there = (
    local_text.shown(words[at]) if 0 <= at < len(words) else "outside the text"
  )
  row.fail(
    f"'target.span2_index' is {at}, which is {there}, expected the place of "
    f"'target.span2_text' {local_text.shown(pronoun)} among the words between "
    f"blanks, counted from 0 ({right})"
  )


def _t5_marks(example: Example) -> bool:
  """Whether t5's own preprocessor takes an example of WSC."""
  import tensorflow as tf
  from t5.data import preprocessors

  dataset = preprocessors.wsc_simple(tf.data.Dataset.from_tensors(example))
  return bool(list(dataset.ignore_errors().as_numpy_iterator()))
