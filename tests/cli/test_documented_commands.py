"""The commands of docs/restoring.md, on tiny inputs."""

import glob
import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax.cli import restore

ROOT = pathlib.Path(__file__).parents[2]
PHOTO = np.ascontiguousarray(skimage.data.coffee()[100:124, 200:232])


def documented(program):
  """Return the arguments of each command of a program in docs/restoring.md, in order."""
  text = (ROOT / 'docs' / 'restoring.md').read_text()
  lines = re.findall(rf'^(?:\| `)?{re.escape(program)} (.*?)(?:` \|.*)?$', text, re.MULTILINE)
  return [shlex.split(line) for line in lines]


@pytest.fixture
def inputs(tmp_path, monkeypatch):
  """Make the inputs of the commands in the working directory."""
  monkeypatch.chdir(tmp_path)
  os.makedirs('photos/more')
  for path in ('photo.jpg', 'photos/a.jpg', 'photos/more/b.JPG'):
    Image.fromarray(PHOTO).save(path)
  frames = [Image.fromarray(np.roll(PHOTO, shift, axis=1)) for shift in range(2)]
  frames[0].save('anim.gif', save_all=True, append_images=frames[1:])
  av = pytest.importorskip('av')
  with av.open('video.mp4', 'w') as output:
    stream = output.add_stream('libx264', rate=5)
    stream.width, stream.height, stream.pix_fmt = 32, 24, 'yuv420p'
    for _ in range(2):
      output.mux(stream.encode(av.VideoFrame.from_ndarray(PHOTO)))
    output.mux(stream.encode(None))


def sizes(folder='.'):
  found = {}
  for path in sorted(pathlib.Path(folder).rglob('*')):
    if path.suffix.lower() in ('.jpg', '.png', '.gif'):
      with Image.open(path) as image:
        found[str(path)] = image.size
  return found


def test_gfn_restore(inputs, capsys):
  commands = documented('gfn-restore')
  assert len(commands) >= 10
  for command in commands:
    *words, target = [word for word in command if not word.startswith('--')][:2]
    assert words, command
    expanded = [path for word in command for path in (sorted(glob.glob(word)) or [word])]
    restore.main(expanded)
    output = capsys.readouterr().out
    assert re.match(rf'\d+ restored.* -> {re.escape(target)}(/|,|$)', output), command
  assert sizes('restored') == {
    'restored/a.jpg': (128, 96),
    'restored/more/b.JPG': (128, 96),
    'restored/photo.jpg': (128, 96),
  }
  made = {name: size for name, size in sizes().items() if '/' not in name}
  assert made == {
    'anim.gif': (32, 24),
    'frames.gif': (32, 24),
    'photo.jpg': (32, 24),
    'sharp.gif': (128, 96),
    'sharp.png': (128, 96),
    'sharper.png': (32, 24),
    'steady.png': (32, 24),
  }
  assert os.path.getsize('sharp.mp4')
  assert 'a.jpg' in pathlib.Path('report.html').read_text()


@pytest.mark.end_to_end
def test_run_eval(inputs):
  [command] = documented('python run_eval.py')
  process = subprocess.run(
    [sys.executable, ROOT / 'run_eval.py', *command], capture_output=True, text=True, timeout=300
  )
  assert (process.returncode, process.stdout) == (0, '2 restored -> restored/\n'), process.stderr
  assert sizes('restored') == {'restored/a.png': (128, 96), 'restored/more/b.png': (128, 96)}
