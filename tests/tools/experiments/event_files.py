"""Event files as t5 writes them, with times that a test chooses."""

import os

import tensorflow.compat.v1 as tf


def write(
  folder, created: float, *events, name: str = "host", prefix: str = "eval/"
) -> str:
  """One file, as one evaluation writes it.

  Args:
    folder: of the evaluation.
    created: seconds since 1970.
    *events: (seconds after it, step, {"task/metric": value}).
    name: the end of its name: files that are made in one second differ in it.
    prefix: of the tags; empty for those of a training.

  Returns:
    its path
  """
  path = f"events.out.tfevents.{int(created)}.{name}"
  path = os.path.join(str(folder), path)
  with tf.io.TFRecordWriter(path) as writer:
    first = tf.Event(wall_time=created, file_version="brain.Event:2")
    writer.write(first.SerializeToString())
    for later, step, scores in events:
      summary = tf.Summary(
        value=[
          tf.Summary.Value(tag=f"{prefix}{tag}", simple_value=value)
          for tag, value in scores.items()
        ]
      )
      event = tf.Event(wall_time=created + later, step=step, summary=summary)
      writer.write(event.SerializeToString())
  return path
