"""The folder of an exported model, as TensorFlow Serving wants it.

OUTPUT/STEP/              a SavedModel; TensorFlow Serving takes the highest
  hypergrid_mtf.json      what a client must know
OUTPUT/models.config      for --model_config_file
OUTPUT/request.json       an example for its REST API
"""

import json
import os

from hypergrid_mtf.run import files
from tools.serving import record, text_model, trained

CONFIG = "models.config"
REQUEST = "request.json"
_CONFIG_TEXT = """\
# tensorflow_model_server --model_config_file=THIS --rest_api_port=8501
# curl -d @request.json http://localhost:8501/v1/models/{name}:predict
# Not run here: there was no TensorFlow Serving. It must have the ops of
# tensorflow_text.
model_config_list {{
  config {{
    name: "{name}"
    base_path: "{path}"
    model_platform: "tensorflow"
  }}
}}
"""


def write(
  folder: str,
  made: text_model.TextModel,
  source: trained.Trained,
  options: text_model.Options,
) -> None:
  """Writes a SavedModel and what belongs to it.

  Args:
    folder: named by the step; not there yet, and then whole or not at all.
    made: the model.
    source: what it was made of.
    options: of the export.

  Raises:
    UserError: if the file system refuses.
  """
  output_dir = os.path.dirname(folder)
  content = record.make(source, options)
  with files.new_folder(folder) as part:
    made.save(part)
    files.write(
      os.path.join(part, record.NAME), json.dumps(content, indent=1) + "\n"
    )
  in_cloud = "://" in folder
  path = output_dir if in_cloud else os.path.abspath(output_dir)
  name = os.path.basename(path.rstrip("/")) or "model"
  files.write(
    os.path.join(output_dir, CONFIG), _CONFIG_TEXT.format(name=name, path=path)
  )
  request = {
    "signature_name": text_model.ANSWER,
    "inputs": {"inputs": _example(content)},
  }
  files.write(
    os.path.join(output_dir, REQUEST), json.dumps(request, indent=1) + "\n"
  )


def _example(content: dict) -> list[str]:
  """One input of the first task."""
  task = next(iter(content["tasks"].values()), None)
  return [f"{task['prefix']}a text" if task else "a text"]
