import json
import os
import sys

import numpy as np
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from gfn_jax.system import files
from gfn_jax.training import metric_writer
from gfn_jax.training.metric_writer import MetricWriter


def read_rows(workdir):
  return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def read_events(workdir):
  [path] = (workdir / 'tensorboard').glob('events.*')
  return events_of(path.read_bytes())


def events_of(data):
  """TensorBoard's events, by their format: length, its CRC, the event, its CRC."""
  while data:
    length = int.from_bytes(data[:8], 'little')
    event, crc = data[12 : 12 + length], int.from_bytes(data[12 + length : 16 + length], 'little')
    assert crc == masked_crc32c(event)
    yield event_pb2.Event.FromString(event)
    data = data[16 + length :]


def test_scalars_and_pictures_are_written(tmp_path):
  with MetricWriter(tmp_path) as writer:
    writer.write_scalars(3, {'loss': np.float32(0.5), 'psnr': 20})
    writer.write_image(3, 'test/picture', np.full((4, 6, 3), 7, np.uint8))
  [row] = read_rows(tmp_path)
  assert (row['step'], row['loss'], row['psnr']) == (3, 0.5, 20.0)
  values = {v.tag: (e.step, v) for e in read_events(tmp_path) for v in e.summary.value}
  assert values['loss'][0] == 3
  assert values['loss'][1].simple_value == 0.5
  picture = values['test/picture'][1].image
  assert (picture.height, picture.width) == (4, 6)


def test_what_needs_a_missing_package_is_left_out(tmp_path, monkeypatch, capsys):
  for name in ('matplotlib', 'matplotlib.figure', 'tensorboardX', 'tensorboardX.summary'):
    monkeypatch.setitem(sys.modules, name, None)
  with MetricWriter(tmp_path) as writer:
    monkeypatch.setattr(metric_writer, 'MINUTE', 0.0)
    for step in (1, 2):
      writer.write_scalars(step, {'loss': step})
      writer.write_image(step, 'test/picture', np.zeros((4, 6, 3), np.uint8))
      writer.sync()
  assert [path.name for path in tmp_path.iterdir()] == ['metrics.jsonl']
  assert [row['loss'] for row in read_rows(tmp_path)] == [1, 2]
  tensorboard, curves = capsys.readouterr().err.splitlines()
  assert tensorboard.startswith('TensorBoard files are left out: cannot import tensorboardX (')
  assert tensorboard.endswith('; pip install tensorboardX')
  assert curves.startswith('curves.png is left out: cannot import matplotlib (')


def test_rows_after_the_checkpoint_and_half_lines_are_dropped(tmp_path):
  with MetricWriter(tmp_path) as writer:
    for step in (1, 2, 3):
      writer.write_scalars(step, {'loss': step})
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 4, "lo')
  with MetricWriter(tmp_path, start_step=2) as writer:
    writer.write_scalars(3, {'loss': 30})
  assert [(row['step'], row['loss']) for row in read_rows(tmp_path)] == [(1, 1), (2, 2), (3, 30)]


def test_damaged_rows_are_told(tmp_path, capsys):
  path = tmp_path / 'metrics.jsonl'
  good = ['{"step": 1, "loss": 2.0}\n', '{"step": 3, "loss": 1.0}\n']
  bad = ['{"step": 2, "loss": 2.\n', '\0\n', '[1]\n', '{"step": "x"}\n', '{"step": 1e999}\n']
  path.write_text(good[0] + ''.join(bad) + good[1] + '{"step": 4, "lo')
  with MetricWriter(tmp_path, start_step=4):
    assert path.read_text() == ''.join(good)
  assert capsys.readouterr().err == f'{path}: dropped 5 rows that cannot be read\n'


def test_curves_are_drawn_once_a_minute_and_at_the_end(tmp_path, monkeypatch):
  now, drawn = [100.0], []
  monkeypatch.setattr(metric_writer.time, 'monotonic', lambda: now[0])
  monkeypatch.setattr(metric_writer, 'write_curves', lambda path, rows: drawn.append(len(rows)))
  with MetricWriter(tmp_path) as writer:
    for step in (1, 2, 3, 4):
      now[0] += 25
      writer.write_scalars(step, {'loss': step})
      writer.sync()
    assert drawn == [3]
  assert drawn == [3, 4]
  with MetricWriter(tmp_path / 'none', writes=False):
    pass
  assert drawn == [3, 4]


def test_a_full_disk_is_told_with_the_file(tmp_path):
  full = pytest.raises(OSError, match="No space left on device: '/dev/full'")
  with full, files.naming('/dev/full'), open('/dev/full', 'w') as file:
    file.write('text')
  writer = MetricWriter(tmp_path)
  with pytest.raises(OSError, match='No space left on device: .*metrics.jsonl'), writer:
    os.dup2(os.open('/dev/full', os.O_WRONLY), writer._file.fileno())
    writer.write_scalars(1, {'loss': 1.0})
