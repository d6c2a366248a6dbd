import functools
import gzip
import json
import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest

from gfn_jax.errors import UserError
from gfn_jax.interop import load_torch_checkpoint
from tests.interop.torch_files import legacy, module, one_pickle, ordered_dict, tensor, zipped

ROOT = pathlib.Path(__file__).parents[2]

# Reads every hostile file in little memory, and reports what that did.
SCRIPT = """
import json, os, resource, sys, time, zipfile
sys.path.insert(0, {root!r})
import encodings.cp437
from gfn_jax.errors import UserError
from gfn_jax.interop import load_torch_checkpoint
from tests.interop import hostile_files

HARMLESS = ('open', 'object.', 'os.listdir', 'resource.')
events = []

def note(event, args):
  if event == 'open' and args[0] not in ('hostile.pth', None):
    events.append(str(args))
  elif not event.startswith(HARMLESS):
    events.append(event)

with open('/proc/self/statm') as file:
  used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
sys.addaudithook(note)
results = {{}}
for name, content, message in hostile_files.files():
  with open('hostile.pth', 'wb') as file:
    file.write(content)
  events.clear()
  start = time.process_time()
  try:
    outcome = f'accepted: {{list(load_torch_checkpoint("hostile.pth"))}}'
  except UserError as error:
    outcome = str(error)
  except BaseException as error:
    outcome = repr(error)
  results[name] = (outcome, message, time.process_time() - start, list(events))
os.remove('hostile.pth')
print(json.dumps(results))
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='limits memory as Linux does')
def test_hostile_files_are_refused_in_one_line_and_nothing_happens(tmp_path):
  command = [sys.executable, '-c', SCRIPT.format(root=str(ROOT))]
  result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
  assert result.returncode == 0, result.stderr
  outcomes = json.loads(result.stdout.splitlines()[-1])
  assert len(outcomes) > 400
  wrong = {}
  for name, (outcome, message, seconds, events) in outcomes.items():
    clear = outcome.startswith('cannot read hostile.pth as a checkpoint: ')
    short = outcome.isprintable() and len(outcome) < 400
    if not clear or not short or message not in outcome or seconds > 5 or events:
      wrong[name] = (outcome, message, seconds, events)
  assert wrong == {}
  assert list(tmp_path.iterdir()) == []


def test_no_file(tmp_path):
  with pytest.raises(UserError, match='none.pth does not exist$'):
    load_torch_checkpoint(tmp_path / 'none.pth')
  with pytest.raises(UserError, match='is a folder, not a checkpoint$'):
    load_torch_checkpoint(tmp_path)
  os.mkfifo(tmp_path / 'encoder_lv1.pkl')
  (tmp_path / 'decoder_lv1.pkl').mkdir()
  (tmp_path / 'decoder_lv2.pkl').symlink_to(tmp_path)
  with pytest.raises(UserError, match='is a folder, not a checkpoint$'):
    load_torch_checkpoint(tmp_path)
  pipe = tmp_path / 'pipe'
  os.mkfifo(pipe)
  with pytest.raises(UserError, match='pipe does not exist$'):
    load_torch_checkpoint(pipe)
  odd = tmp_path / 'a\nb.pth'
  odd.write_bytes(gzip.compress(b''))
  with pytest.raises(UserError, match=r'^cannot read .*a\\nb.pth as a checkpoint: compressed file'):
    load_torch_checkpoint(odd)


def small_files():
  """A state dict and a module in each container, and how a mutation becomes a file."""
  weight, count = np.arange(8, dtype=np.float32).reshape(2, 4), np.int64(3)
  values = {'w': tensor('0', weight)}, {'n': tensor('1', count)}
  state = {'epoch': 3, 'state_dict': ordered_dict(values[0] | values[1], {'_metadata': {}})}
  net = module('Net', values[0], {'a': module('Leaf', buffers=values[1])})
  for value in (state, net):
    storages = {'0': weight, '1': count}
    yield legacy(value, storages), lambda raw: raw
    yield zipped(value, storages), lambda raw: raw
    # With right checksums.
    wrap = functools.partial(zipped, None, storages)
    yield one_pickle(value), lambda raw, wrap=wrap: wrap(pickled=raw)


def mutate(content, rng):
  """A few bits, bytes or slices changed, removed or repeated."""
  content = bytearray(content)
  for _ in range(rng.choice((1, 1, 2, 5))):
    position = rng.randrange(len(content))
    length = rng.choice((1, 1, 2, 4, 8, 30))
    match rng.randrange(6):
      case 0:
        content[position] ^= 1 << rng.randrange(8)
      case 1:
        content[position] = rng.randrange(256)
      case 2:
        del content[position : position + length]
      case 3:
        other = rng.randrange(len(content))
        content[other:other] = content[position : position + length]
      case 4:
        raw = rng.choice((b'\xff', b'\x00', b'\x7f')) * length
        content[position : position + length] = raw
      case 5:  # another instruction
        content[position] = rng.choice(b'().]}abcehijlopqrstuRQX\x80\x81\x85\x88\x8a\x8c\x93\x94')
  return bytes(content)


def fuzz(path, count, seed):
  """How many mutations are still taken; all others must be a `UserError`."""
  rng = random.Random(seed)
  taken = 0
  for content, make_file in small_files():
    for _ in range(count):
      path.write_bytes(make_file(mutate(content, rng)))
      try:
        state = load_torch_checkpoint(path)
      except UserError as error:
        assert str(error).isprintable()
      else:
        assert all(type(name) is str for name in state)
        assert all(type(array) is np.ndarray and array.size < 1000 for array in state.values())
        taken += 1
  return taken


def test_damaged_files_are_refused_or_read(tmp_path):
  taken = fuzz(tmp_path / 'fuzz.pth', count=300, seed=0)
  assert 100 < taken < 1000  # a value that has changed is no damage that can be seen
