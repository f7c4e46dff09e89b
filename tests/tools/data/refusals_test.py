"""Every task's files, damaged in every way: one sentence, file and line.

The files are made up and the readers plain Python, so the matrix is cheap.
"""

import copy
import csv
import io
import json
import re

import pytest
import seqio

import t5_tasks  # noqa: F401  (patches the stack, registers the tasks)
from hypergrid_mtf.errors import UserError
from tests.tools.data import benchmark_files as files
from tools.data import local_files, local_glue, local_super_glue

# isort: split
import tensorflow as tf
from t5.data import preprocessors


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
  """Downloads of both benchmarks that this module may damage."""
  roots = {b: tmp_path_factory.mktemp(b) for b in local_files.BENCHMARKS}
  files.write_glue(roots["glue"])
  files.write_super_glue(roots["super_glue"])
  return roots


def _dataset(benchmark, config, root):
  found = local_files.find(benchmark, str(root)).datasets
  return next(d for d in found if d.config == config)


def _read(dataset, split):
  notes = []
  return list(dataset.examples(split, notes.append)), notes


def _check_refused(dataset, split, content, line, what):
  """Reads the split's file with other content, and puts it back."""
  path = dataset.files[split]
  with open(path, "rb") as f:
    before = f.read()
  try:
    with open(path, "wb") as f:
      f.write(content)
    where = path if line is None else f"{path}, line {line}"
    try:
      _read(dataset, split)
    except UserError as e:
      said = str(e)
    else:
      pytest.fail(f"{split}: {what} is not refused")
    assert re.fullmatch(re.escape(where) + r": [^\n]+[^.]\.", said), (
      what,
      split,
      said,
    )
  finally:
    with open(path, "wb") as f:
      f.write(before)


def _bad_bytes(lines):
  """(what, content, line) of a file that is not UTF-8 text with line ends."""
  text = b"\n".join(lines) + b"\n"
  last = len(lines)
  yield "empty", b"", None
  yield "blank", b"\n\n", None
  yield "UTF-16", text.decode("utf-8-sig").encode("utf-16"), 1
  yield "UTF-16 without a mark", text.decode().encode("utf-16-le"), 1
  yield "NUL", text[:-1] + b"\0\n", last
  yield "Latin-1", text[:-1] + b"\xe9\n", last
  yield "CR", b"\r".join(lines), None
  yield "CR at the end", b"\r".join(lines) + b"\r", None


def _bad_tables(dataset, split, lines):
  """(what, content, line) of a damaged table."""
  config = local_glue.CONFIGS[dataset.config]
  has_header = b"gj04" not in lines[0]
  header = lines[0].decode("utf-8-sig").split("\t")
  last = len(lines)

  def table(*changed):
    return b"\n".join(changed) + b"\n"

  cells = lines[-1].split(b"\t")
  yield "extra column", table(*lines[:-1], lines[-1] + b"\tmore"), last
  if dataset.config != "qqp":  # Of which TFDS leaves broken rows out.
    yield "few columns", table(*lines[:-1], b"\t".join(cells[:-1])), last
  label = header.index(config.label) if config.label in header else None
  if not has_header:
    label = 1
  # The last row of MRPC's training file is none of its validation split.
  if label is not None and not (dataset.config == "mrpc" and split != "train"):
    for bad in (b"7", b"nan", b"inf", b"", b"maybe", b"-2"):
      if bad == b"" and split == "test":
        continue
      changed = b"\t".join([*cells[:label], bad, *cells[label + 1 :]])
      yield f"label {bad}", table(*lines[:-1], changed), last
  if has_header:
    yield "header only", table(lines[0]), None
    for names in config.text.values():
      (name,) = set(names) & set(header)
      renamed = lines[0].replace(name.encode(), b"another", 1)
      yield f"no {name}", table(renamed, *lines[1:]), 1
      doubled = lines[0].replace(header[0].encode(), name.encode(), 1)
      if name != header[0]:
        yield f"two {name}", table(doubled, *lines[1:]), 1
    if label is not None and split != "test":
      renamed = lines[0].replace(config.label.encode(), b"another", 1)
      yield "no label", table(renamed, *lines[1:]), 1
  # What Excel, LibreOffice and pandas make of it.
  quoted = io.StringIO()
  writer = csv.writer(quoted, delimiter="\t", lineterminator="\n")
  rows = [line.decode().split("\t") for line in lines]
  writer.writerows(rows)
  first = next(n for n, row in enumerate(rows, 1) if '"' in "".join(row))
  yield "quoted", quoted.getvalue().encode(), first


@pytest.mark.parametrize("config", local_glue.CONFIGS)
def test_damaged_tables(config, roots):
  dataset = _dataset("glue", config, roots["glue"])
  for split in dataset.splits:
    with open(dataset.files[split], "rb") as f:
      lines = f.read().decode("utf-8-sig").replace("\r\n", "\n").strip("\n")
    lines = lines.encode().split(b"\n")
    cases = [*_bad_bytes(lines), *_bad_tables(dataset, split, lines)]
    assert len(cases) >= 11
    for what, content, line in cases:
      _check_refused(dataset, split, content, line, what)
    assert len(_read(dataset, split)[0]) > 1


# Keys that no task reads.
_UNREAD = ("version", "source", "logic", "start", "end")


def _leaves(value, way=()):
  """The ways to everything in an object that is read."""
  # The members of a list are alike: the last stands for them.
  items = (
    value.items() if isinstance(value, dict) else [(len(value) - 1, value[-1])]
  )
  for key, inner in items:
    if key in _UNREAD and not (way and "entities" in way):
      continue
    yield (*way, key)
    if isinstance(inner, dict | list):
      yield from _leaves(inner, (*way, key))


def _changed(rows, way, change):
  rows = copy.deepcopy(rows)
  inside = rows[-1]
  for key in way[:-1]:
    inside = inside[key]
  change(inside, way[-1])
  return rows


# By the type of what is there: other types, and numbers that int32 lacks.
_WRONG = {
  str: (None, 3, [3], {"a": 1}),
  int: (None, "0", 2.5, [3], True, 2**31, -(2**31)),
  list: (None, "x", {"a": 1}, [1]),
  dict: (None, "x", [1]),
}


def _wrong_values(dataset, split, way, there):
  if way[-1] != "label":
    return _WRONG[type(there)]
  values = ["seven", [3], 2, 2.5, -2]
  if split != "test":
    values += [None, -1]
  if "entailment" in local_super_glue.CONFIGS[dataset.config].classes:
    values.append(True)
  return values


def _bad_objects(dataset, split, rows):
  """(what, content, line) of a damaged file of JSON lines."""

  def lines(changed):
    return "\n".join(json.dumps(row) for row in changed).encode() + b"\n"

  last = len(rows)
  yield "cut", lines(rows)[:-5], last
  yield "a list", lines([*rows[:-1], [1]]), last
  yield "the last again", lines([*rows, rows[-1]]), last + 1
  for way in _leaves(rows[-1]):
    # A test file needs no answers, and no label.
    if isinstance(way[-1], str) and not (
      split == "test" and way[-1] == "label"
    ):
      changed = _changed(rows, way, lambda inside, key: inside.pop(key))
      yield f"no {way}", lines(changed), last
    for value in _wrong_values(dataset, split, way, _at(rows[-1], way)):

      def put(inside, key, value=value):
        inside[key] = value

      yield f"{way} is {value!r}", lines(_changed(rows, way, put)), last


def _at(value, way):
  for key in way:
    value = value[key]
  return value


@pytest.mark.parametrize("config", local_super_glue.CONFIGS)
def test_damaged_objects(config, roots):
  dataset = _dataset("super_glue", config, roots["super_glue"])
  for split in dataset.splits:
    with open(dataset.files[split], encoding="utf-8") as f:
      lines = f.read().strip("\n").split("\n")
    rows = [json.loads(line) for line in lines]
    raw = [line.encode() for line in lines]
    cases = [*_bad_bytes(raw), *_bad_objects(dataset, split, rows)]
    assert len(cases) >= 25
    for what, content, line in cases:
      _check_refused(dataset, split, content, line, what)
    assert len(_read(dataset, split)[0]) > 1


def _write(root, name, rows):
  files.write_objects(root / name, rows)
  return _dataset("super_glue", _FOLDERS[name.split("/")[0]], root)


_FOLDERS = {"WSC": "wsc.fixed", "MultiRC": "multirc", "ReCoRD": "record"}

_TEXT = "Mark told Pete that he should be truthful , said he"


def _wsc(text=_TEXT, pronoun="he", at=4, label=True, noun="Mark", idx=0):
  target = {
    "span1_text": noun,
    "span1_index": 0,
    "span2_text": pronoun,
    "span2_index": at,
  }
  return {"text": text, "idx": idx, "target": target, "label": label}


@pytest.mark.parametrize(
  ("row", "says"),
  [
    (_wsc(), None),
    (_wsc(at=10), None),  # The last word.
    (_wsc(at=3), "is 3, which is 'that', expected .*'he'.* (it is 4 and 10)"),
    (_wsc(at=5), "is 5, which is 'should', "),
    (_wsc(at=11), "is 11, which is outside the text, "),
    (_wsc(at=-1), "is -1, which is outside the text, "),
    (_wsc("He left Bob .", "He", 0, noun="Bob"), "the pronoun 'He' .*first wo"),
    (_wsc("Bob left, he said.", "he", 3, noun="Bob"), "(it is 2)"),
    (_wsc("Bob  left, he said.", "he", 2, noun="Bob"), "(it is 3)"),
    (
      _wsc("Bob left himself .", "him", 2, noun="Bob"),
      "no word is exactly this",
    ),
    (_wsc("Bob left h\\e .", "h\\e", 2, noun="Bob"), "without a backslash"),
    (_wsc(pronoun=" "), "'span2_text' is empty"),
    (_wsc(noun=""), "'span1_text' is empty"),
  ],
)
def test_wsc_stops_here_and_not_in_t5s_graph(row, says, tmp_path):
  # Validation reads every row, training those that are true.
  for name in ("train", "val"):
    dataset = _write(tmp_path, f"WSC/{name}.jsonl", [row])
  for split in ("train", "validation"):
    examples = _by_t5(dataset, split) if says is None else None
    if says is None:
      assert examples == [1]
    else:
      with pytest.raises(UserError) as error:
        _read(dataset, split)
      said = str(error.value)
      assert said.startswith(f"{dataset.files[split]}, line 1: ")
      pattern = says.replace("(", r"\(").replace(")", r"\)")
      assert re.search(pattern, said), said
  # t5 leaves the false rows of the training file out before it looks at them.
  files.write_objects(
    tmp_path / "WSC" / "train.jsonl", [row | {"label": False}]
  )
  if says is None or "empty" not in says:
    assert len(_read(dataset, "train")[0]) == 1


def _by_t5(dataset, split):
  """How often the pronoun is marked in each row, by t5's preprocessor."""
  rows = [example for _, example in dataset.examples(split)]
  data = tf.data.Dataset.from_tensor_slices(
    {key: [row[key] for row in rows] for key in rows[0]}
  )
  made = preprocessors.wsc_simple(data, correct_referent_only=split == "train")
  return [ex["inputs"].count(b"*he*") for ex in made.as_numpy_iterator()]


def test_what_is_refused_in_wsc_is_what_t5_stops_at():
  for row, is_read in (
    (_wsc(), True),
    (_wsc(at=10), True),
    (_wsc(at=3), False),
    (_wsc(at=11), False),
    (_wsc("He left Bob .", "He", 0), False),
    # One of the texts that t5 knows by heart; the index is one off.
    (
      _wsc(
        "The boy continued to whip the pony , and eventually the pony threw "
        'him over. John laughed out quite loud. "Good for him," he said. ',
        "him",
        20,
      ),
      True,
    ),
  ):
    example = {"text": row["text"], **row["target"], "idx": 0, "label": 1}
    assert local_super_glue._t5_marks(example) == is_read, row


def _multirc(numbers, labels):
  """Paragraphs whose questions have these numbers, two answers each."""
  labels = iter(labels)
  rows = []
  for paragraph, questions in enumerate(numbers):
    made = [
      {
        "idx": number,
        "question": "q",
        "answers": [
          {"idx": a, "text": "a", "label": next(labels)} for a in (0, 1)
        ],
      }
      for number in questions
    ]
    passage = {"text": "p", "questions": made}
    rows.append({"idx": paragraph, "passage": passage})
  return rows


def _multirc_scores(numbers, labels):
  """t5's scores of a model that says True to every answer."""
  task = seqio.TaskRegistry.get("super_glue_multirc_v102")
  targets = [
    task.postprocess_fn(
      ("False", "True")[label],
      example={"idx/question": number},
      is_target=True,
    )
    for number, label in zip(numbers, labels, strict=True)
  ]
  answers = [task.postprocess_fn("True", is_target=False)] * len(targets)
  scores = {}
  for metric in task.metric_fns:
    scores |= metric(targets, answers)
  return scores


def test_multirc_is_grouped_by_question_and_paragraph(tmp_path):
  # Six questions of two answers; all but the last are answered right.
  labels = [1] * 11 + [0]
  for name, questions, expected in (
    ("official", ((0, 1), (2, 3), (4, 5)), [0, 1, 2, 3, 4, 5]),
    ("anew", ((0, 1), (0, 1), (0, 1)), [0, 1, 2, 3, 4, 5]),
    ("gaps", ((7, 3), (9, 1), (12, 40)), [7, 3, 9, 1, 12, 40]),
  ):
    rows = _multirc(questions, labels)
    dataset = _write(tmp_path / name, "MultiRC/val.jsonl", rows)
    rows, notes = _read(dataset, "validation")
    numbers = [example["idx"]["question"] for _, example in rows]
    assert numbers[::2] == expected
    scores = _multirc_scores(numbers, [e["label"] for _, e in rows])
    assert scores["exact_match"] == pytest.approx(100 * 5 / 6), name
    assert len(notes) == (name == "anew")
    assert not notes or "numbers 0 to 5" in notes[0]
  # What t5 makes of the file's own numbers.
  wrong = _multirc_scores([0, 0, 1, 1] * 3, labels)
  assert wrong["exact_match"] == 50.0


def test_multirc_of_a_server_keeps_its_numbers(tmp_path):
  rows = _multirc(((0, 1), (0, 1)), [1] * 8)
  for row in rows:
    for question in row["passage"]["questions"]:
      for answer in question["answers"]:
        del answer["label"]
  dataset = _write(tmp_path, "MultiRC/test.jsonl", rows)
  examples, notes = _read(dataset, "test")
  assert [e["idx"]["question"] for _, e in examples[::2]] == [0, 1, 0, 1]
  assert not notes
  rows = _multirc(((0, 0),), [1] * 4)
  rows[0]["passage"]["questions"][1]["answers"][0]["idx"] = 5
  rows[0]["passage"]["questions"][1]["answers"][1]["idx"] = 6
  dataset = _write(tmp_path, "MultiRC/test.jsonl", rows)
  with pytest.raises(UserError, match="line 1: the question idx 0 of the para"):
    _read(dataset, "test")


def test_what_is_odd_is_said_once(tmp_path):
  record = {
    "idx": 0,
    "passage": {"text": "Paris", "entities": [{"start": 0, "end": 4}]},
    "qas": [
      {"idx": n, "query": "Where ?", "answers": [{"text": text}]}
      for n, text in enumerate(("Paris", "Rome", ""))
    ],
  }
  dataset = _write(tmp_path, "ReCoRD/val.jsonl", [record])
  _, notes = _read(dataset, "validation")
  path = dataset.files["validation"]
  assert notes == [
    f"{path}: 3 of its rows have no '@placeholder' in the query (first: line "
    "1)",
    f"{path}: 2 of its rows have an answer that is not one of the entities "
    "(first: line 1)",
  ]
  record["qas"][1]["answers"] = []
  dataset = _write(tmp_path, "ReCoRD/val.jsonl", [record])
  with pytest.raises(UserError, match=r"line 1: 'qas\[1\].answers' is empty"):
    _read(dataset, "validation")

  sst2 = tmp_path / "SST-2" / "test.tsv"
  files.write_table(sst2, [("index", "sentence"), (1, "a"), (2, " "), (3, "c")])
  dataset = _dataset("glue", "sst2", tmp_path)
  _, notes = _read(dataset, "test")
  assert notes == [
    f"{sst2}: 3 of its rows are not numbered by their place from 0, as a "
    "submission numbers them (first: line 2)",
    f"{sst2}: 1 of its rows have an empty 'sentence' (first: line 3)",
  ]


def test_labels_in_a_part_of_a_test_file(tmp_path):
  sst2 = tmp_path / "SST-2" / "test.tsv"
  header = ("sentence", "label")
  for second in ("", -1):
    files.write_table(sst2, [header, ("a", 1), ("b", second)])
    with pytest.raises(UserError, match=r"test.tsv, line 3: .*that of line 2"):
      _read(_dataset("glue", "sst2", tmp_path), "test")
  files.write_table(sst2, [header, ("a", -1), ("b", "")])
  rows, _ = _read(_dataset("glue", "sst2", tmp_path), "test")
  assert [example["label"] for _, example in rows] == [-1, -1]


def test_quotes_of_the_text_and_of_a_spreadsheet(tmp_path):
  sst2 = tmp_path / "SST-2" / "train.tsv"
  genuine = ('"All of it"', '" yes " , he', 'a "b" c', '""', '"""', "plain")
  for texts, line in (
    (genuine, None),
    (genuine[:1] + genuine[-1:] * 3, None),  # One whole quotation.
    (("plain", '"He said ""yes"""', "plain"), 3),
    (('"a"', '"b"', '"c"'), 2),  # Every text.
    (('"a"', '"b"', "c"), None),
    ((*genuine, '"He said ""yes"""'), None),
  ):
    rows = [("sentence", "label"), *((t, 1) for t in texts)]
    files.write_table(sst2, rows)
    dataset = _dataset("glue", "sst2", tmp_path)
    if line is None:
      read, _ = _read(dataset, "train")
      assert [example["sentence"] for _, example in read] == list(texts)
    else:
      with pytest.raises(UserError, match=f"train.tsv, line {line}: .*quoted"):
        _read(dataset, "train")
  files.write_table(sst2, [('"sentence"', '"label"'), ("a", 1)])
  with pytest.raises(
    UserError, match=r"train.tsv, line 1: '\"sentence\"' is qu"
  ):
    _read(_dataset("glue", "sst2", tmp_path), "train")


def test_mrpc_without_dev_ids(tmp_path):
  files.write_glue(tmp_path)
  (tmp_path / "MRPC" / "dev_ids.tsv").unlink()
  found = local_files.find("glue", str(tmp_path))
  (mrpc,) = (d for d in found.datasets if d.config == "mrpc")
  assert mrpc.splits == ["test"]
  assert found.notes == [
    "glue/mrpc: no file for train, validation (dev_ids.tsv is missing beside "
    "msr_paraphrase_train.txt; it says which of its rows are for validation)"
  ]
  (tmp_path / "MRPC" / "msr_paraphrase_test.txt").unlink()
  found = local_files.find("glue", str(tmp_path))
  assert found.notes == [
    f"{tmp_path}/MRPC: none of its files is known, skipped (dev_ids.tsv is "
    "missing beside msr_paraphrase_train.txt; it says which of its rows are "
    "for validation)"
  ]
  ids = tmp_path / "MRPC" / "dev_ids.tsv"
  files.write_table(ids, [(1, 2)])
  mrpc = _dataset("glue", "mrpc", tmp_path)
  with pytest.raises(
    UserError, match=rf"no rows for validation by the .*{ids}"
  ):
    _read(mrpc, "validation")


def test_real_files_have_nothing_odd(shared_data):
  for benchmark in local_files.BENCHMARKS:
    for dataset in local_files.find(
      benchmark, str(shared_data / benchmark)
    ).datasets:
      for split in dataset.splits:
        rows, notes = _read(dataset, split)
        assert rows and not notes
