"""Types and ranges of bindings and flags."""

import gin
import pytest

from hypergrid_mtf import errors
from hypergrid_mtf.run import values
from tests.hypergrid_mtf.command_line import GraphReached
from tests.hypergrid_mtf.run import configuration


@pytest.fixture(autouse=True)
def no_bindings_left_behind():
  yield
  gin.clear_config()


@pytest.mark.parametrize(
  ("text", "words"),
  [
    (
      "run.train_steps = '5'",
      "run.train_steps = '5' is not a positive integer",
    ),
    ("run.train_steps = 1e3", "= 1000.0 is not a positive integer"),
    ("run.train_steps = 0", "= 0 is not a positive integer"),
    ("run.train_steps = True", "= True is not a positive integer"),
    ("run.save_checkpoints_steps = 0", "= 0 is not a positive integer"),
    ("run.save_checkpoints_steps = None", "= None is not a positive integer"),
    ("run.keep_checkpoint_max = -1", "= -1 is not an integer of 0 or more or"),
    ("run.iterations_per_loop = 2.5", "= 2.5 is not a positive integer"),
    ("run.perplexity_eval_steps = '9'", "= '9' is not a positive integer"),
    ("run.total_run_steps = 'all'", "is not a positive integer or None"),
    ("run.learning_rate_schedule = '0.1'", "is not a number of 0 or more"),
    ("run.learning_rate_schedule = [0.1, 'x']", "is not a number of 0 or more"),
    ("run.learning_rate_schedule = -0.1", "= -0.1 is not a number of 0 or"),
    ("run.optimizer = 'Adafactor'", "= 'Adafactor' is not a reference"),
    ("run.dataset_split = 'validation'", "is not the split 'train'"),
    ("run.skip_seen_data = 'no'", "= 'no' is not True or False"),
    ("dropout_rate = 1.0", "is not a number of at least 0 and below 1"),
    ("dropout_rate = -0.1", "is not a number of at least 0 and below 1"),
    ("dropout_rate = '0.1'", "is not a number of at least 0 and below 1"),
    ("d_model = 0", "Unitransformer.d_model = 0 is not a positive integer"),
    ("num_layers = 0", "num_layers = 0 is not a positive integer"),
    ("num_layers = '6'", "num_layers = '6' is not a positive integer"),
    ("num_heads = 1.5", "SelfAttention.num_heads = 1.5 is not a positive"),
    ("d_kv = -4", "key_value_size = -4 is not a positive integer"),
    ("d_ff = '64'", "hidden_size = '64' is not a positive integer"),
    ("decoder/Unitransformer.label_smoothing = 2", "decoder/Unitransformer"),
    (
      "serialize_num_microbatches.tokens_per_microbatch_per_replica = '2048'",
      "= '2048' is not a number of 0 or more or None",
    ),
    (
      "serialize_num_microbatches.tokens_per_microbatch_per_replica = -5",
      "= -5 is not a number of 0 or more or None",
    ),
    ("tpu_estimator_model_fn.outer_batch_size = 'x'", "a positive integer"),
    ("Bitransformer.decode.beam_size = 0", "Bitransformer.decode.beam_size"),
    ("Bitransformer.decode.sampling_keep_top_k = 0", "is not -1 or a positive"),
    ("Bitransformer.decode.max_decode_length = 0", "positive integer or None"),
    ("linear_decay.steps_or_fraction = 'half'", "is not a number of 0 or more"),
    # Known by the default alone.
    ("AdafactorOptimizer.beta1 = '0.9'", "beta1 = '0.9' is not a number"),
    ("Bitransformer.shared_embedding = 'False'", "is not True or False"),
  ],
)
def test_a_value_that_t5_cannot_use_is_refused(text, words):
  configuration.parse(text)
  with pytest.raises(errors.UserError) as e:
    values.check_bindings(trains=True)
  assert words in str(e.value)
  assert f'(--gin_param="{text}")' in str(e.value)


def test_values_that_t5_takes_are_not_refused():
  configuration.parse(
    "run.train_steps = @auto_train_steps",
    "learning_rate_schedules.product_learning_rate.factors = [0.1]",
    "run.keep_checkpoint_max = 0",
    "run.skip_seen_data = 1",
    "truncated_rsqrt.warmup_steps = 10000.0",
    "decoder/DenseReluDense.dropout_rate = 0",
    "Unitransformer.loss_denominator = 233472",
    "Unitransformer.z_loss = 0.0",
    "Bitransformer.decode.temperature = 0.5",
    "SimdMeshImpl.allreduce_in_bfloat16_max_group_size = 8",
    "run.learning_rate_schedule = [1, @learning_rate_schedules.linear_decay]",
  )
  values.check_bindings(trains=True)
  # Only a training reads it.
  configuration.parse("run.train_steps = 0")
  values.check_bindings(trains=False)


@pytest.mark.parametrize(
  "flag",
  ["--use_model_api", "--mode=train", "--train_steps=4", "--beam_size=1"]
  + ["--checkpoint_steps=1,2", "--tpu_topology=v3-8"],
)
def test_flags_of_the_model_api_are_refused(run, flag):
  with pytest.raises(errors.UserError) as e:
    run(flag)
  assert str(e.value).startswith(f"{flag} belongs to t5's model API")


def test_beams_and_a_temperature_in_gin(run):
  evaluation = (
    *(f"--gin_file={f}" for f in configuration.EMBEDDED),
    "--gin_file=eval.gin",
    "--gin_param=run.dataset_split = 'validation'",
    "--gin_param=eval_checkpoint_step = None",
  )
  with pytest.raises(errors.UserError) as e:
    run(
      *evaluation, "--gin_file=sample_decode.gin", "--gin_file=beam_search.gin"
    )
  message = str(e.value)
  assert "beam_size = 4 (beam_search.gin, line " in message
  assert "temperature = 1.0 (sample_decode.gin, line " in message
  with pytest.raises(GraphReached):  # t5's file goes back to one beam
    run(
      *evaluation, "--gin_file=beam_search.gin", "--gin_file=sample_decode.gin"
    )
