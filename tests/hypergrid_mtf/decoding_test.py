"""Decoding and scoring against one teacher-forced pass of the same model."""

import functools
import itertools
from unittest import mock

import gin
import mesh_tensorflow as mtf
import numpy as np
import pytest
import seqio
import t5.models.mtf_model
import tensorflow.compat.v1 as tf
from scipy import special

import t5_tasks  # noqa: F401  (registers the tasks)
from hypergrid_mtf import gate
from tests import beam_search
from tools.data import local_files

from . import mtf_testing

GLUE = ("cola", "sst2", "mrpc", "stsb", "rte")
VOCABULARY = seqio.ByteVocabulary(extra_ids=0)
LENGTH, STEPS = 64, 16  # of the real inputs, and of what is decoded from them
EOS = beam_search.EOS
# The size of models/micro, under the variables of `mtf_testing.small_model`.
MICRO = """
d_model = 64
d_ff = 256
num_heads = 4
d_kv = 16
HyperGrid.grid_rows = 16
HyperGrid.grid_cols = 16
"""

# (variant, condition_on, gated_kernel)
SETTINGS = [
  *((variant, "first_token", "wo") for variant in gate.VARIANTS),
  ("L2", "task_token", "wo"),
  ("L2", "first_token", "wi"),
]


def bindings(condition_on, gated_kernel, contraction=None):
  """Gin bindings of one setting of the layer."""
  lines = [
    f"HyperGrid.condition_on = '{condition_on}'",
    f"HyperGrid.gated_kernel = '{gated_kernel}'",
  ]
  if contraction is not None:
    lines.append(f"HyperGrid.contraction = '{contraction}'")
  return "\n".join(lines) + "\n"


@functools.cache
def real_texts(shared_data, count):
  """Real GLUE examples in T5's text format, with the tasks in turn.

  Args:
    shared_data: the folder of the benchmark files, a pathlib.Path
    count: how many

  Returns:
    a list of (inputs, targets), strings
  """
  each = -(-count // len(GLUE))  # of a task
  found = local_files.find_datasets("glue", str(shared_data / "glue")).datasets
  by_task = {}
  for dataset in found:
    if dataset.config not in GLUE:
      continue
    rows = itertools.islice(dataset.examples("validation"), each)
    label = dataset.builder.info.features["label"]  # may be names in files
    rows = [
      {**row, "label": label.encode_example(row["label"])} for _, row in rows
    ]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    task = seqio.TaskRegistry.get(f"glue_{dataset.config}_v002")
    texts = task.preprocessors[0](tf.data.Dataset.from_tensor_slices(columns))
    by_task[dataset.config] = [
      (row["inputs"].decode(), row["targets"].decode())
      for row in texts.as_numpy_iterator()
    ]
  assert sorted(by_task) == sorted(GLUE)
  mixed = itertools.chain(*zip(*by_task.values(), strict=True))
  return list(mixed)[:count]


def encode(text, length):
  """Token ids, cut to `length` with the end of the sequence, as t5 does it."""
  return np.array([*VOCABULARY.encode(text)[: length - 1], EOS], np.int32)


def example_losses(logits, targets, segments=None):
  """Sum of cross entropies of each example, in order, in float64.

  Args:
    logits: [rows, length, vocab]
    targets: [rows, length]; 0 is padding
    segments: None, one example a row, or of each token, [rows, length]

  Returns:
    [examples]
  """
  logits = special.log_softmax(logits.astype(np.float64), axis=-1)
  losses = -np.take_along_axis(logits, targets[..., None], -1)
  losses = np.where(targets > 0, losses[..., 0], 0.0)
  if segments is None:
    return losses.sum(-1)
  return np.array(
    [
      row[ids == segment].sum()
      for row, ids in zip(losses, segments, strict=True)
      for segment in range(1, ids.max() + 1)
    ]
  )


class Model(mtf_testing.Model):
  """One small model that is teacher-forced and decodes, in one graph."""

  def __init__(self, layers, bindings, vocab_size=None, layout="", mesh=""):
    vocab_size = vocab_size or VOCABULARY.vocab_size
    super().__init__(layers, bindings, layout, mesh, vocab_size)

  def forced(
    self, batch, length, targets_length, prefix="", packed=False, train=False
  ):
    """One teacher-forced pass: logits [batch, length, vocab], and the loss.

    The placeholders are `<prefix>inputs` and `<prefix>targets`, packed also
    `<prefix>inputs_segmentation` and so on.
    """
    given = {
      name + suffix: self.feature(prefix + name + suffix, batch, size)
      for name, size in (("inputs", length), ("targets", targets_length))
      for suffix in (("", "_segmentation", "_position") if packed else ("",))
    }
    if packed:
      return self.call(given, train)
    # An untrained model also says 0, which must not be taken for padding.
    no_padding = mtf.ones(self.mesh, given["targets"].shape, tf.int32)
    return self.call(given, train, decoder_sequence_id=no_padding)

  def decode(self, batch, length, steps, **kwargs):
    """Bitransformer.decode of the placeholder `inputs`, [batch, steps]."""
    return self.model.decode(
      self.feature("inputs", batch, length),
      variable_dtype=mtf_testing.FLOAT32,
      max_decode_length=steps,
      **kwargs,
    )

  def decode_with_logits(self, batch, length, steps, **kwargs):
    """Greedy decoding or sampling that also returns what it chose from.

    The decoder's steps are those of `sample_autoregressive`. They carry one
    more state, into which each step writes the logits it is about to choose
    from; it leaves the loop with the ids.

    Returns:
      ids [batch, steps], logits [batch, steps, vocab] and the number of steps
      that were run [batch]
    """
    decoder = self.model.decoder
    call = decoder._call_internal

    def call_and_record(context, inputs, targets=None):
      logits = call(context, inputs, targets)
      if context.mode == "first_part":
        context.record_new_states([mtf.zeros_like(logits)])
      else:
        (record,) = context.get_states(1)
        here = mtf.one_hot(
          context.position, context.length_dim, dtype=logits.dtype
        )
        context.record_new_states(
          [record + mtf.einsum([logits, here], output_shape=record.shape)]
        )
      return logits

    with mock.patch.object(decoder, "_call_internal", call_and_record):
      ids = self.decode(batch, length, steps, **kwargs)
    steps_run, loop_ids, *_, logits = ids.operation.outputs
    assert loop_ids is ids
    return ids, logits, steps_run

  def beam_search(self, batch, length, steps, width, alpha, prefilter):
    """Bitransformer.decode by beam search, and what the search itself found.

    Returns:
      best [batch, steps], beams [batch, beam, steps], scores [batch, beam]
    """
    found = []
    search = mtf.beam_search.beam_search

    def search_and_keep(*args, **kwargs):
      found.append(search(*args, num_prefilter=prefilter, **kwargs))
      return found[-1]

    with mock.patch.object(mtf.beam_search, "beam_search", search_and_keep):
      best = self.decode(batch, length, steps, beam_size=width, alpha=alpha)
    ((beams, scores),) = found
    return best, beams, scores


def _real_inputs(shared_data, count):
  texts = real_texts(shared_data, count)
  return mtf_testing.pad([encode(i, LENGTH) for i, _ in texts], LENGTH)


@pytest.mark.parametrize(
  ("setting", "contraction"),
  [
    *((setting, None) for setting in SETTINGS),
    (SETTINGS[0], "plain"),
    (SETTINGS[-1], "plain"),
  ],
  ids=str,
)
def test_every_step_of_decoding_is_the_teacher_forced_one(
  setting, contraction, shared_data
):
  batch, count = (
    50,
    200 if (setting, contraction) == (SETTINGS[0], None) else 50,
  )
  inputs = _real_inputs(shared_data, count)
  variant, *others = setting
  layers = f"\nnum_layers = {2 if setting == SETTINGS[0] else 1}\n"
  micro = Model(variant, MICRO + layers + bindings(*others, contraction))
  outputs, tokens = set(), 0
  with micro.tf_graph.as_default():
    ids, logits, steps = micro.decode_with_logits(batch, LENGTH, STEPS)
    forced, _ = micro.forced(batch, LENGTH, STEPS, "forced_")
    fetches = {"ids": ids, "logits": logits, "steps": steps, "forced": forced}
    with micro.start(fetches) as run:
      for rows in np.split(inputs, count // batch):
        ids, logits, steps = run(["ids", "logits", "steps"], inputs=rows)
        n = int(steps.max())  # the loop also goes on past the end of a sequence
        assert n == STEPS or (ids == EOS).any(-1).all()
        (forced,) = run(["forced"], forced_inputs=rows, forced_targets=ids)
        ids, logits, forced = ids[:, :n], logits[:, :n], forced[:, :n]
        np.testing.assert_allclose(logits, forced, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(ids, forced.argmax(-1))
        outputs |= {tuple(row) for row in ids.tolist()}
        tokens += ids.size
  assert len(outputs) > count // 2  # not one answer for all
  assert tokens >= count * STEPS // 2


SMALL_VOCAB = 6


def _small_inputs(count):
  """Token ids of a tiny vocabulary, [count, 7]; all rows differ."""
  rng = np.random.default_rng(0)
  rows = [
    np.append(rng.integers(2, SMALL_VOCAB, rng.integers(3, 7)), EOS)
    for _ in range(count)
  ]
  rows = mtf_testing.pad(rows, 7)
  assert len(np.unique(rows, axis=0)) == count
  return rows


def _chi_square(counts, probabilities):
  """The statistic in standard deviations from its mean: about normal.

  Args:
    counts: how often each case was seen
    probabilities: of the cases

  Returns:
    a number; about 0 if the counts have these probabilities
  """
  expected = probabilities.ravel() * counts.sum()
  order = np.argsort(expected)
  counts, expected = counts.ravel()[order], expected[order]
  rare = max(int((np.cumsum(expected) < 8).sum()) + 1, 1)  # seen as one case
  counts = np.append(counts[:rare].sum(), counts[rare:])
  expected = np.append(expected[:rare].sum(), expected[rare:])
  statistic = ((counts - expected) ** 2 / expected).sum()
  degrees = len(expected) - 1
  return (statistic - degrees) / np.sqrt(2 * degrees)


def test_sampling_draws_from_the_teacher_forced_softmax():
  """Two tokens for each of four inputs, many times."""
  temperature, each, runs = 0.7, 1000, 4
  variant, *others = SETTINGS[0]
  small = Model(variant, bindings(*others), SMALL_VOCAB)
  inputs = _small_inputs(4)
  tokens = np.arange(SMALL_VOCAB)
  with small.tf_graph.as_default():
    tf.set_random_seed(0)
    shape = (4 * each, inputs.shape[1], 2)
    forced, _ = small.forced(
      4 * SMALL_VOCAB, inputs.shape[1], 2, prefix="forced_"
    )
    ids, logits, _ = small.decode_with_logits(*shape, temperature=temperature)
    fetches = {
      "warm": ids,
      "logits": logits,
      "cold": small.decode(*shape, temperature=1e-6),
      "forced": forced,
    }
    with small.start(fetches, scale=3.0) as run:
      many = np.tile(inputs, (each, 1))  # neighbours differ
      warm, logits = zip(
        *(run(["warm", "logits"], inputs=many) for _ in range(runs)),
        strict=True,
      )
      (cold,) = run(["cold"], inputs=many)
      # Row (n, t) is input n with the first token t.
      first = np.tile(tokens, 4)
      (forced,) = run(
        ["forced"],
        forced_inputs=np.repeat(inputs, SMALL_VOCAB, axis=0),
        forced_targets=np.stack([first, np.zeros_like(first)], -1),
      )
  forced = forced.reshape(4, SMALL_VOCAB, 2, SMALL_VOCAB)
  first = forced[:, 0, 0].argmax(-1)
  second = forced[np.arange(4), first, 1].argmax(-1)
  greedy = np.tile(np.stack([first, second], -1), (each, 1))
  np.testing.assert_array_equal(cold, greedy)

  warm = np.reshape(warm, [runs * each, 4, 2])
  logits = np.reshape(logits, [runs * each, 4, 2, SMALL_VOCAB])
  then = forced[np.arange(4), warm[:, :, 0], 1]  # [sample, input, vocab]
  start = np.broadcast_to(forced[:, 0, 0], then.shape)
  want = np.stack([start, then], axis=2)
  np.testing.assert_allclose(logits, want, rtol=0, atol=1e-4)

  def pairs(temperature):
    first = special.softmax(forced[:, 0, 0] / temperature, axis=-1)
    second = special.softmax(forced[:, :, 1] / temperature, axis=-1)
    return first[:, :, None] * second  # [input, first, second]

  counts = np.zeros((4, SMALL_VOCAB, SMALL_VOCAB))
  for n in range(4):
    np.add.at(counts[n], tuple(warm[:, n].T), 1)
  want, untempered = pairs(temperature), pairs(1.0)
  for n in range(4):
    assert _chi_square(counts[n], want[n]) < 4
    assert _chi_square(counts[n], untempered[n]) > 20
    assert _chi_square(counts[n], want[(n + 1) % 4]) > 20
  frequencies = counts / counts.sum((1, 2), keepdims=True)
  assert np.abs(frequencies - want).sum((1, 2)).max() / 2 < 0.05


BEAM_STEPS = 4
BEAM_SEED = 1  # of weights with which four hypotheses of each input finish
WIDE = 128  # no fewer than the prefixes that can be alive, (6 - 1) ** 3


def _all_finished(table, alpha):
  """Every finished sequence, best first, in the form of `search`."""
  out = []
  for prefix in table:
    log_prob = sum(table[prefix[:i]][token] for i, token in enumerate(prefix))
    if EOS not in prefix:
      log_prob += table[prefix][EOS]
      penalty = beam_search.penalty(len(prefix) + 1, alpha)
      out.append((log_prob / penalty, (*prefix, EOS)))
  return sorted(out, reverse=True)


def _hypotheses(beams, scores):
  """The result of the graph's search, in the form of `beam_search.search`."""
  out = []
  for tokens, score in zip(beams.tolist(), scores.tolist(), strict=True):
    end = tokens.index(EOS) + 1 if EOS in tokens else BEAM_STEPS
    # mtf asks for a width below the vocabulary's: past that it also goes on
    # with sequences that have ended, and fills up with ones of -1e7.
    if score > -1e6 and not any(tokens[end:]):
      out.append((score, tuple(tokens[:end])))
  return out


@pytest.mark.parametrize(
  ("setting", "contraction", "mesh", "searches"),
  [
    # Without a mesh no token is left out. So wide, all sequences are found.
    (SETTINGS[0], None, (None, None), [(4, 0.6, 0), (WIDE, 0.6, 0)]),
    (
      ("GL", "task_token", "wi"),
      None,
      ("", ""),  # one device, as t5 has it
      [(4, 0.0, 0), (4, 0.6, 2), (2, 0.0, 2)],
    ),
    (SETTINGS[0], None, ("batch:batch", "batch:2"), [(4, 0.6, 0), (4, 0.6, 2)]),
    (SETTINGS[0], None, ("vocab:model", "model:2"), [(4, 0.6, 2)]),
    pytest.param(
      *(SETTINGS[0], "plain", ("batch:batch", "batch:2"), [(4, 0.6, 0)]),
      marks=pytest.mark.slow,
    ),
  ],
  ids=["L2", "GL", "batch", "vocab", "plain"],
)
def test_beam_search_is_that_of_the_teacher_forced_scores(
  setting, contraction, mesh, searches
):
  variant, *others = setting
  vocab_size = SMALL_VOCAB if mesh[0] is None else 8  # no fewer than 2 x 4
  gin_lines = bindings(*others, contraction)
  small = Model(variant, gin_lines, vocab_size, *mesh)
  count = 4
  inputs = _small_inputs(count)
  ends = list(itertools.product(range(vocab_size), repeat=BEAM_STEPS - 1))
  shape = (count, inputs.shape[1], BEAM_STEPS)
  with small.tf_graph.as_default():
    forced, _ = small.forced(
      count * len(ends), inputs.shape[1], BEAM_STEPS, prefix="forced_"
    )
    fetches = {"forced": forced}
    for search in searches:
      fetches[str(search)] = small.beam_search(*shape, *search)
    with small.start(fetches, seed=BEAM_SEED) as run:
      (forced,) = run(
        ["forced"],
        forced_inputs=np.repeat(inputs, len(ends), axis=0),
        forced_targets=np.tile(mtf_testing.pad(ends, BEAM_STEPS), (count, 1)),
      )
      found = run(list(map(str, searches)), inputs=inputs)
  forced = special.log_softmax(forced.astype(np.float64), axis=-1)
  forced = forced.reshape(count, len(ends), BEAM_STEPS, -1)
  tables = [
    {
      prefix[:i]: forced[n, at, i]
      for at, prefix in enumerate(ends)
      for i in range(BEAM_STEPS)
    }
    for n in range(count)
  ]
  # Mixing inputs up would show.
  for one, other in itertools.combinations(tables, 2):
    assert np.abs(one[()] - other[()]).max() > 0.01
  for (width, alpha, prefilter), (best, beams, scores) in zip(
    searches, found, strict=True
  ):
    np.testing.assert_array_equal(best, beams[:, 0])
    if width >= WIDE:
      want = [_all_finished(table, alpha)[:32] for table in tables]
    else:
      want = beam_search.search(
        lambda rows: [tables[n][prefix] for n, prefix in rows],
        *(count, BEAM_STEPS, width, alpha, prefilter),
        parts=2 if mesh[0] == "vocab:model" else 1,
      )
    if prefilter:  # mtf fills up with sequences that no beam had
      want = [hypotheses[:1] for hypotheses in want]
    assert sum(map(len, want)) >= (count if prefilter else 8)
    for n in range(count):
      got = _hypotheses(beams[n], scores[n])[: len(want[n])]
      assert [tokens for _, tokens in got] == [tokens for _, tokens in want[n]]
      np.testing.assert_allclose(
        [score for score, _ in got], [score for score, _ in want[n]], atol=1e-4
      )


def test_scores_are_the_teacher_forced_sums(tmp_path, shared_data):
  """Those of `MtfModel.score`."""
  texts = real_texts(shared_data, 50)
  variant, *others = SETTINGS[0]
  micro = Model(variant, MICRO + bindings(*others))
  columns = list(zip(*texts, strict=True))
  inputs, targets = (
    mtf_testing.pad(
      [[*VOCABULARY.encode(t.strip()), EOS][:n] for t in column], n
    )
    for column, n in zip(columns, (LENGTH, STEPS), strict=True)
  )
  with micro.tf_graph.as_default():
    forced, _ = micro.forced(len(texts), LENGTH, STEPS)
    tf.train.create_global_step()
    with micro.start({"forced": forced}) as run:
      tf.train.Saver().save(
        micro.session, str(tmp_path / "model.ckpt"), global_step=0
      )
      (tmp_path / "operative_config.gin").write_text(gin.config_str())
      (forced,) = run(["forced"], inputs=inputs, targets=targets)
  model = t5.models.mtf_model.MtfModel(
    model_dir=str(tmp_path),
    tpu=None,
    mesh_shape="model:1,batch:1",
    mesh_devices=["cpu:0"],
    batch_size=10,
    sequence_length={"inputs": LENGTH, "targets": STEPS},
  )
  got, _ = model.score(*map(list, columns), vocabulary=VOCABULARY)
  want = -example_losses(forced, targets)
  assert len(np.unique(want.round(3))) > 40
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
