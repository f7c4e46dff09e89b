"""Where TFDS keeps what it prepared."""

from hypergrid_mtf import tfds_data


def test_a_prepared_data_set_is_found_by_its_name(tmp_path):
  assert not tfds_data.is_prepared("glue/cola:1.0.0", tmp_path)
  folder = tmp_path / "glue" / "cola" / "1.0.0"
  folder.mkdir(parents=True)
  (folder / "dataset_info.json").write_text("{}")
  assert tfds_data.is_prepared("glue/cola:1.0.0", tmp_path)
  assert tfds_data.prepared_dir("glue/cola:1.0.0", tmp_path) == str(folder)
