"""Local benchmark files: what is found, what is read, and what is refused."""

import copy
import json
import os
import re

import pytest
import seqio

import t5_tasks  # noqa: F401  (patches the stack, registers the tasks)
from hypergrid_mtf.errors import UserError
from tests.tools.data import benchmark_files as files
from tools.data import example_checks, local_files

# isort: split
import tensorflow as tf
from t5.data import glue_utils, preprocessors


def _dataset(config, root):
  benchmark, _, config = config.rpartition("/")
  found = local_files.find_datasets(benchmark or "glue", str(root)).datasets
  return next(d for d in found if d.config == config)


def _examples(config, root, split):
  """Checked and read, with labels as numbers."""
  dataset = _dataset(config, root)
  count, _ = dataset.check_split(split)
  features = dataset.builder.info.features
  rows = [features.encode_example(e) for _, e in dataset.examples(split)]
  assert len(rows) == count
  return rows


def test_every_task_is_found_and_read(downloads):
  for benchmark, builder in local_files.BUILDERS.items():
    found = local_files.find_datasets(benchmark, str(downloads / benchmark))
    assert not found.notes
    assert [d.config for d in found.datasets] == list(builder.builder_configs)
    for dataset in found.datasets:
      assert set(dataset.splits) == set(local_files.OFFICIAL_ROWS[dataset.name])
      for split in dataset.splits:
        count, notes = dataset.check_split(split)
        assert count > 1
        assert bool(notes) == (dataset.name == "glue/qqp" and split == "train")
  published = glue_utils.get_glue_weight_mapping()
  for config in ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"):
    rows = local_files.OFFICIAL_ROWS[f"glue/{config}"]["train"]
    assert rows == published[f"glue_{config}_v002"]


def test_real_files(shared_data):
  """All rows of the available official files, without notes."""
  for benchmark in local_files.BUILDERS:
    found = local_files.find_datasets(benchmark, str(shared_data / benchmark))
    for dataset in found.datasets:
      for split in dataset.splits:
        rows, notes = dataset.check_split(split)
        official = local_files.OFFICIAL_ROWS[dataset.name][split]
        if benchmark == "super_glue" and split == "train":
          official = 32
        if (dataset.config, split) == ("mrpc", "train"):
          official = 3667
        assert (rows, notes) == (official, [])


def test_names_of_folders_and_missing_files(tmp_path):
  files.write_glue(tmp_path)
  (tmp_path / "diagnostic").rename(tmp_path / "AX")
  (tmp_path / "AX" / "diagnostic.tsv").rename(tmp_path / "AX" / "AX.tsv")
  (tmp_path / "CoLA" / "test.tsv").unlink()
  (tmp_path / "MRPC" / "dev_ids.tsv").unlink()
  (tmp_path / "RTE").rename(tmp_path / "SNLI")
  found = local_files.find_datasets("glue", str(tmp_path))
  assert len(found.datasets) == 11
  assert found.notes == [
    f"glue/cola: no test, because {tmp_path}/CoLA/test.tsv is missing",
    "glue/mrpc: no train, validation, because "
    f"{tmp_path}/MRPC/dev_ids.tsv is missing",
    f"{tmp_path}: no files of rte, skipped",
  ]


def test_mrpc_of_the_download_script(tmp_path):
  header = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
  row = (1, 2, 3, 'a "', "b")
  folder = tmp_path / "MRPC"
  for name in ("train", "dev"):
    files.write_table(folder / f"{name}.tsv", [header, row], bom=True)
  # Without dev_ids, the original training file cannot be divided.
  files.write_table(folder / "msr_paraphrase_train.txt", [header, row, row])
  test = [("index", *header[1:]), (0, *row[1:])]
  files.write_table(folder / "test.tsv", test, last_end=False)
  for split, label in (("train", 1), ("validation", 1), ("test", -1)):
    assert _examples("mrpc", tmp_path, split) == [
      {"sentence1": 'a "', "sentence2": "b", "idx": 0, "label": label}
    ]
  files.write_table(folder / "dev_ids.tsv", [(8, 9)])
  (folder / "train.tsv").unlink()
  files.write_table(
    folder / "msr_paraphrase_train.txt", [header, row], bom=True
  )
  with pytest.raises(UserError, match="no rows for validation"):
    _examples("mrpc", tmp_path, "validation")


@pytest.mark.parametrize(
  "content",
  [
    b'\xef\xbb\xbfsentence\tlabel\na "b \t1\nc\t0',
    b'sentence\tlabel\r\na "b \t1\r\nc\t0\r\n\r\n\n',
    b'sentence\tlabel\t\na "b \t1\t\nc\t0\t\n',
    b'sentence\tlabel\ra "b \t1\rc\t0\r',
  ],
)
def test_bytes_of_tables(content, tmp_path):
  (tmp_path / "SST-2").mkdir()
  (tmp_path / "SST-2" / "train.tsv").write_bytes(content)
  assert _examples("sst2", tmp_path, "train") == [
    {"sentence": 'a "b ', "label": 1, "idx": 0},
    {"sentence": "c", "label": 0, "idx": 1},
  ]


def test_quotes_of_the_text_and_of_a_spreadsheet(tmp_path):
  sst2 = tmp_path / "SST-2" / "train.tsv"
  genuine = ('"All of it"', '" yes " , he', 'a "b" c', '""', '"""', "plain")
  for texts, line in (
    (genuine, None),
    (('"a"', '"b"', "c"), None),
    ((*genuine, '"He said ""yes"""'), None),
    (("plain", '"He said ""yes"""', "plain"), 3),
  ):
    files.write_table(sst2, [("sentence", "label"), *((t, 1) for t in texts)])
    if line is None:
      read = _examples("sst2", tmp_path, "train")
      assert [example["sentence"] for example in read] == list(texts)
    else:
      with pytest.raises(UserError, match=f"train.tsv, line {line}: .*quoted"):
        _examples("sst2", tmp_path, "train")


_CB = {"premise": "p", "hypothesis": "h", "label": "neutral", "idx": 0}
_UNLABELLED = {k: v for k, v in _CB.items() if k != "label"}
_QA = {"idx": 0, "query": "q", "answers": [{"text": "Paris"}]}
_PASSAGE = {"text": "Paris", "entities": [{"start": 0, "end": 4}]}
_OUTSIDE = _PASSAGE | {"entities": [{"start": 5, "end": 7}]}
_STSB = b"sentence1\tsentence2\tscore\n"
_QQP = b"id\tquestion1\tquestion2\tis_duplicate\n"


def _lines(*rows):
  return "\n".join(json.dumps(row) for row in rows).encode()


def _multirc(*labels):
  """One paragraph with two questions of one number."""
  questions = [
    {"idx": 4, "question": str(n), "answers": [{"idx": 5 + n, "text": "a"}]}
    for n in range(2)
  ]
  for question, label in zip(questions, labels, strict=True):
    if label is not None:
      question["answers"][0]["label"] = label
  return _lines({"idx": 0, "passage": {"text": "p", "questions": questions}})


def _record(qas=(_QA,), passage=_PASSAGE):
  return _lines({"idx": 0, "passage": passage, "qas": qas})


def _wsc(text, pronoun, at, label=True, noun="Mark", idx=0):
  target = {
    "span1_text": noun,
    "span1_index": 0,
    "span2_text": pronoun,
    "span2_index": at,
  }
  return {"text": text, "idx": idx, "target": target, "label": label}


# File, content, what the error says after the path.
_REFUSED = (
  ("SST-2/train.tsv", b"", "the file has no rows"),
  ("SST-2/train.tsv", b"sentence\tlabel\n", "the file has no rows"),
  ("SST-2/train.tsv", b"sentence\tlabel\na\t1\nb\n", "line 3: 1 tab-separated"),
  ("SST-2/train.tsv", b"sentence\tlabel\na\tb\t1\n", "line 2: 3 tab-separated"),
  ("SST-2/train.tsv", b"sentence\tlabel\na\t1\n \n", "line 3: 1 tab-separated"),
  ("SST-2/train.tsv", b"sentence\tlabel\na\rb\t1\n", "line 2: 1 tab-separated"),
  ("SST-2/train.tsv", b"sentence\tlabel\na\t2\n", "line 2: the label is 2"),
  ("SST-2/train.tsv", b"sentence\tlabel\na\t-1\n", "line 2: the label or"),
  ("SST-2/test.tsv", b"sentence\tlabel\na\t\n", "line 2: the label is ''"),
  ("SST-2/test.tsv", b"sentence\tlabel\na\t1\nb\t-1\n", "line 3: .* no label"),
  ("SST-2/test.tsv", b"sentence\tlabel\na\t-1\nb\t0\n", "line 3: .* a label"),
  ("SST-2/train.tsv", b"index\tsentence\n0\ta\n", "line 1: .*'label' 0 times"),
  ("SST-2/train.tsv", b"text\tlabel\na\t1\n", "line 1: .*'sentence' 0 times"),
  ("SST-2/dev.tsv", b"label\tlabel\tsentence\n", "line 1: .*'label' 2 times"),
  ("SST-2/dev.tsv", b"sentence\tlabel\n\xe9\t1\n", "line 2: byte 1 is not UTF"),
  ("SST-2/dev.tsv", b"sentence\tlabel\n\0\t1\n", "line 2: byte 1 is NUL"),
  ("SST-2/dev.tsv", "sentence\t".encode("utf-16"), "line 1: UTF-16 text"),
  ("CoLA/train.tsv", b"gj04,1,,A b.\n", "line 1: 1 tab-separated"),
  ("CoLA/test.tsv", b"0\tA b.\n", "line 1: .*'sentence' 0 times"),
  ("STS-B/dev.tsv", _STSB + b"a\tb\t5.1\n", "line 2: the s"),
  ("STS-B/dev.tsv", _STSB + b"a\tb\tnan\n", "line 2: the s"),
  ("STS-B/test.tsv", _STSB + b"a\tb\t\n", "line 2: the lab"),
  ("QQP/train.tsv", _QQP + b"1\ta\n" * 201, "line 202: 2 tab-separated"),
  ("CB/train.jsonl", b"", "the file has no rows"),
  ("CB/train.jsonl", _lines(_CB) + b"\n{'premise'", "line 2: not valid JSON"),
  ("CB/train.jsonl", _lines(_CB) + b"\n\n", "line 2: not valid JSON"),
  ("CB/train.jsonl", b"[" * 9999, "line 1: TFDS cannot read it"),
  ("CB/train.jsonl", b"[1]", "line 1: TFDS cannot read it"),
  ("CB/train.jsonl", b'{"premise": "\xe9"}', "line 1: byte 14 is not UTF-8"),
  (
    "CB/val.jsonl",
    _lines(_UNLABELLED),
    "line 1: .*its label is m",
  ),
  ("CB/train.jsonl", _lines(_CB | {"label": "maybe"}), "line 1: the label is"),
  ("CB/train.jsonl", _lines(_CB | {"label": 1}), "line 1: the label is '1'"),
  ("CB/test.jsonl", _lines(_CB | {"label": []}), "line 1: .*label format"),
  (
    "CB/test.jsonl",
    _lines(_CB | {"label": -1}),
    "line 1: .*missing or unknown",
  ),
  ("CB/train.jsonl", _lines(_CB, _CB | {"idx": 2**31}), "line 2: 'idx' is 21"),
  ("CB/train.jsonl", _lines(_CB, _CB), "line 2: the idx 0 occurs twice"),
  ("CB/val.jsonl", _lines(_CB | {"premise": "\ud800"}), "line 1: .*half a c"),
  ("COPA/val.jsonl", _lines({"label": 2}), "line 1: the label is 2, expected"),
  ("COPA/val.jsonl", _lines({"label": "choice1"}), "line 1: the label is 'c"),
  ("BoolQ/val.jsonl", _lines({"label": 1}), "line 1: the key 'question' i"),
  ("ReCoRD/train.jsonl", _record([{"idx": 7, "query": "q"}]), "idx 7: the la"),
  ("ReCoRD/train.jsonl", _record([_QA | {"answers": []}]), "idx 0: the label"),
  ("ReCoRD/train.jsonl", _record(()), "the file has no rows"),
  ("ReCoRD/train.jsonl", _record([_QA, {"idx": 1}]), "after idx 0: .*'query' "),
  ("ReCoRD/train.jsonl", _record(passage=_OUTSIDE), "idx 0: an entity is ou"),
  ("MultiRC/test.jsonl", _multirc(1, None), "idx 0_4_6: the row has no label"),
  ("MultiRC/val.jsonl", _multirc(1, 0), "idx 0_4_6: the question idx 4 of"),
  ("MultiRC/val.jsonl", _multirc(1, 2), "line 1: the label is 2, expected"),
  ("WSC/train.jsonl", _lines(_wsc("A b.", "c", 1)), "line 1: .* spans are "),
)


@pytest.mark.parametrize("case", _REFUSED, ids=lambda c: f"{c[0]}:{c[2]}")
def test_a_wrong_file_is_refused(case, tmp_path):
  name, content, says = case
  path = tmp_path / name
  path.parent.mkdir()
  path.write_bytes(content)
  benchmark = "super_glue" if name.endswith(".jsonl") else "glue"
  with pytest.raises(UserError) as error:
    for dataset in local_files.find_datasets(benchmark, str(tmp_path)).datasets:
      for split in dataset.splits:
        dataset.check_split(split)
  pattern = re.escape(str(path)) + r"(, |: )" + says + r"[^\n]*\."
  assert re.fullmatch(pattern, str(error.value)), str(error.value)


# Keys that no task reads.
_UNREAD = ("version", "source", "logic")


def _ways(value, way=()):
  """The ways to everything in an object that is read."""
  # The members of a list are alike: the last stands for them.
  items = value.items() if isinstance(value, dict) else [(-1, value[-1])]
  for key, inner in items:
    if key in _UNREAD or (key in ("start", "end") and "answers" in way):
      continue
    yield (*way, key)
    if isinstance(inner, dict | list):
      yield from _ways(inner, (*way, key))


def _changed(rows, way, change):
  """The rows with something else, or nothing, in the last one."""
  rows = copy.deepcopy(rows)
  inside = rows[-1]
  for key in way[:-1]:
    inside = inside[key]
  if change is None:
    del inside[way[-1]]
  else:
    inside[way[-1]] = change
  return _lines(*rows)


@pytest.mark.parametrize(
  "config", local_files.BUILDERS["super_glue"].builder_configs
)
def test_every_key_is_checked(config, downloads, tmp_path):
  name = f"super_glue/{config}"
  for split in local_files.OFFICIAL_ROWS[name]:
    path = _dataset(name, downloads / "super_glue").file(split)
    with open(path, encoding="utf-8") as f:
      rows = [json.loads(line) for line in f]
    target = tmp_path / os.path.relpath(path, downloads / "super_glue")
    target.parent.mkdir(exist_ok=True)
    for way in _ways(rows[-1]):
      is_hidden = split == "test" and way[-1] in ("label", "answers")
      may_go = way[-1] != -1 and not is_hidden
      for change in [{"a": 1}] + [None] * may_go:
        target.write_bytes(_changed(rows, way, change))
        with pytest.raises(UserError, match=rf"^{target}, .+\.$"):
          _dataset(name, tmp_path).check_split(split)
          pytest.fail(f"{split} {way} {change}")


_TEXT = "Mark told Pete that he should be truthful , said he"


@pytest.mark.parametrize(
  ("row", "says"),
  [
    (_wsc(_TEXT, "he", 4), None),
    (_wsc(_TEXT, "he", 10), None),  # The last word.
    (_wsc(_TEXT, "he", 3), r"'he' .* 'span2_index' 3: .*\(it is 4 and 10\)"),
    (_wsc(_TEXT, "he", 11), r"'span2_index' 11: "),
    (_wsc(_TEXT, "he", -1), r"'span2_index' -1: "),
    (_wsc("He left Bob .", "He", 0, noun="Bob"), r"\(none\)"),
    (_wsc("Bob left, he said.", "he", 3, noun="Bob"), r"\(it is 2\)"),
    (_wsc("Bob  left, he said.", "he", 2, noun="Bob"), r"\(it is 3\)"),
    (_wsc("Bob left himself .", "him", 2, noun="Bob"), r"\(none\)"),
    (_wsc("Bob left h\\e .", "h\\e", 2, noun="Bob"), "no backslash"),
    (_wsc(_TEXT, " ", 4), "a span is empty"),
    (_wsc(_TEXT, "he", 4, noun=""), "a span is empty"),
    # One of the texts that t5 knows by heart; the index is one off.
    (
      _wsc(
        "The boy continued to whip the pony , and eventually the pony threw "
        'him over. John laughed out quite loud. "Good for him," he said. ',
        "him",
        20,
        noun="John",
      ),
      None,
    ),
  ],
)
def test_wsc_stops_here_and_not_in_t5s_graph(row, says, tmp_path):
  # Validation reads every row, training those that are true.
  path = tmp_path / "WSC" / "train.jsonl"
  for name, split in (("val", "validation"), ("train", "train")):
    files.write_objects(tmp_path / "WSC" / f"{name}.jsonl", [row])
    if says is None:
      examples = _examples("super_glue/wsc.fixed", tmp_path, split)
      data = tf.data.Dataset.from_tensors(dict(examples[0]))
      (made,) = preprocessors.wsc_simple(data).as_numpy_iterator()
      pronoun = row["target"]["span2_text"]
      assert made["inputs"].decode().count(f"*{pronoun}*") == 1
    else:
      with pytest.raises(UserError, match=f"{name}.jsonl, line 1: .*{says}"):
        _examples("super_glue/wsc.fixed", tmp_path, split)
  if says and "empty" not in says:
    example = {"text": row["text"], **row["target"], "idx": 0, "label": "True"}
    assert "backslash" in says or not example_checks._t5_marks(example)
  files.write_objects(path, [row | {"label": False}])
  assert len(_examples("super_glue/wsc.fixed", tmp_path, "train")) == 1


def test_wsc_spans_are_fixed_by_tfds(downloads):
  spans = [
    [
      (e["span1_text"], e["span2_text"])
      for e in _examples(
        f"super_glue/{config}", downloads / "super_glue", "train"
      )
    ]
    for config in ("wsc", "wsc.fixed")
  ]
  assert spans[0][1] == ("mark", "He") and spans[0][3] == ("Pete", "He.")
  assert spans[1][1] == ("Mark", "He") and spans[1][3] == ("Pete", "He")


def _multirc_scores(numbers, labels):
  """t5's scores of a model that says True to every answer."""
  task = seqio.TaskRegistry.get("super_glue_multirc_v102")
  targets = [
    task.postprocess_fn(
      ("False", "True")[label], example={"idx/question": number}, is_target=True
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
  for name, numbers, expected in (
    ("val", (0, 1, 2, 3, 4, 5), [0, 1, 2, 3, 4, 5]),
    ("val", (0, 1, 0, 1, 0, 1), [0, 1, 2, 3, 4, 5]),  # New in each paragraph.
    ("val", (7, 3, 9, 1, 12, 40), [7, 3, 9, 1, 12, 40]),
    ("test", (0, 1, 0, 1, 0, 1), [0, 1, 0, 1, 0, 1]),  # A server scores it.
  ):
    rows = []
    for paragraph in range(3):
      questions = []
      for n in (2 * paragraph, 2 * paragraph + 1):
        answers = [{"idx": a, "text": "a"} for a in (0, 1)]
        if name == "val":
          for a in (0, 1):
            answers[a]["label"] = labels[2 * n + a]
        questions.append(
          {"idx": numbers[n], "question": f"q{n}", "answers": answers}
        )
      passage = {"text": "p", "questions": questions}
      rows.append({"idx": paragraph, "passage": passage})
    split = {"val": "validation"}.get(name, name)
    files.write_objects(tmp_path / "MultiRC" / f"{name}.jsonl", rows)
    dataset = _dataset("super_glue/multirc", tmp_path)
    _, notes = dataset.check_split(split)
    read = [e["idx"]["question"] for _, e in dataset.examples(split)]
    assert read[::2] == expected
    assert bool(notes) == (list(numbers) != expected)
    assert not notes or "numbers 0 to 5" in notes[0]
    if name == "val":
      scores = _multirc_scores(read, labels)
      assert scores["exact_match"] == pytest.approx(100 * 5 / 6)
  # What t5 makes of the file's own numbers.
  wrong = _multirc_scores([0, 0, 1, 1] * 3, labels)
  assert wrong["exact_match"] == 50.0
