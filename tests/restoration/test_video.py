import io
import itertools
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest
import skimage.data
from PIL import ExifTags, Image

from gfn_jax import Restorer, UserError
from gfn_jax.images.containers import damaged_at
from gfn_jax.images.videos import FORMATS, is_video, to_rgb
from gfn_jax.restoration import video as video_module
from gfn_jax.restoration.video import restore_video
from tests.log import Log

SETTINGS = {'weights': 'abc', 'ensemble': False}
PHOTO = skimage.data.astronaut()
RATE = 44100


class Enlarge:
  """Stands for a network: repeats pixels, keeps its inputs, and may be interrupted."""

  def __init__(self, scale=4, interrupt_at=None):
    self.scale = scale
    self.interrupt_at = interrupt_at
    self.inputs = []

  def __call__(self, image):
    if len(self.inputs) == self.interrupt_at:
      raise KeyboardInterrupt
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    self.inputs.append(image)
    return image.repeat(self.scale, axis=0).repeat(self.scale, axis=1)


def moving(count=12, width=64, height=48):
  """Crops of a photograph that move."""
  return [
    np.ascontiguousarray(PHOTO[100 + 2 * i : 100 + 2 * i + height, 150 + i : 150 + i + width])
    for i in range(count)
  ]


def make_video(
  path,
  frames=None,
  *,
  times=None,
  time_base=Fraction(1, 24),
  codec='libx264',
  pix_fmt='yuv420p',
  audio='aac',
  audio_start=0.0,
  matrix=6,
  full=False,
  tags=None,
  look=None,
  rotation=None,
  metadata=None,
  options=None,
):
  """Writes a video with sound; `times` are the frames' time stamps in `time_base`."""
  frames = moving() if frames is None else frames
  times = range(len(frames)) if times is None else times
  height, width, _ = frames[0].shape
  with av.open(str(path), 'w', container_options=options or {}) as output:
    output.metadata.update(metadata or {})
    video = output.add_stream(
      codec, rate=24, width=width, height=height, pix_fmt=pix_fmt, time_base=time_base
    )
    if codec == 'libx264':
      video.options = {'crf': '4', 'g': '5'}
    for name, value in ({'colorspace': matrix} | (tags or {}) | (look or {})).items():
      setattr(video, name, value)
    if full:
      video.color_range = 2
    if rotation:
      video.set_display_rotation(*rotation)
    sound = None
    if audio:
      sound = output.add_stream(audio, rate=RATE)
      sound.metadata['language'] = 'nor'
    packets = []
    for image, pts in zip(frames, times, strict=True):
      frame = av.VideoFrame.from_ndarray(image)
      if 'rgb' not in pix_fmt:
        frame = frame.reformat(
          format=pix_fmt, dst_colorspace={6: 5}.get(matrix, matrix), dst_color_range=1 + full
        )
      frame.pts, frame.time_base = pts, time_base
      packets += video.encode(frame)
    packets += video.encode(None)
    if sound:
      packets += encode_sound(sound, len(frames) / 24, audio_start)
    for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
      output.mux(packet)
  return path


def encode_sound(stream, seconds, start):
  """A tone of 440 Hz in mono or stereo."""
  time = np.arange(int(seconds * RATE)) / RATE
  tone = np.sin(2 * np.pi * 440 * time).astype(np.float32) / 4
  resampler = av.AudioResampler(stream.format, 'stereo', RATE)
  packets = []
  for i in range(0, len(tone), 1024):
    frame = av.AudioFrame.from_ndarray(tone[None, i : i + 1024], format='fltp', layout='mono')
    frame.sample_rate = RATE
    frame.pts = round(start * RATE) + i
    frame.time_base = Fraction(1, RATE)
    for resampled in resampler.resample(frame):
      packets += stream.encode(resampled)
  return packets + stream.encode(None)


def decoded(path):
  """The frames; each keeps its data."""
  with av.open(str(path)) as container:
    return list(container.decode(video=0))


def times(path):
  """The frames' time stamps in seconds, exactly."""
  return [frame.pts * frame.time_base for frame in decoded(path)]


def luma(frame):
  """`[h, w]` uint8, as it is stored."""
  plane = frame.planes[0]
  rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
  return rows[:, : plane.width].astype(int)


def audio_packets(path):
  """For each audio stream, its packets' bytes and times."""
  with av.open(str(path)) as container:
    streams = {stream.index: [] for stream in container.streams.audio}
    for packet in container.demux():
      if packet.size and packet.stream_index in streams:
        streams[packet.stream_index].append((bytes(packet), packet.pts * packet.time_base))
    return list(streams.values())


def restore(source, target, restorer=None, **options):
  restorer = restorer or Enlarge()
  restore_video(restorer, source, target, settings=SETTINGS, **options)
  return restorer


def assert_enlarged(target, source, scale=4, atol=3):
  """Compares the brightness of all frames, as it is stored."""
  frames, originals = decoded(target), decoded(source)
  assert len(frames) == len(originals)
  for frame, original in zip(frames, originals, strict=True):
    expected = luma(original).repeat(scale, axis=0).repeat(scale, axis=1)
    assert luma(frame).shape == expected.shape
    assert np.abs(luma(frame) - expected).max() <= atol


@pytest.mark.parametrize('extension', FORMATS)
def test_frames_time_stamps_and_sound_are_kept(extension, tmp_path):
  source = make_video(tmp_path / 'in.mp4', metadata={'title': 'Søk', 'comment': 'at home'})
  target = tmp_path / f'out{extension}'
  restorer = restore(source, target, crf=1)
  assert len(restorer.inputs) == 12
  assert restorer.inputs[0].shape == (48, 64, 3)
  assert_enlarged(target, source)
  with av.open(str(source)) as before, av.open(str(target)) as after:
    video = after.streams.video[0]
    assert (video.width, video.height, video.codec_context.name) == (256, 192, 'h264')
    assert video.average_rate == before.streams.video[0].average_rate == 24
    assert after.metadata.get('title', after.metadata.get('TITLE')) == 'Søk'
    if extension != '.mov':
      assert after.streams.audio[0].language == 'nor'
    tolerance = 25_000 if extension == '.mkv' else 0  # microseconds
    assert abs(after.duration - before.duration) <= tolerance
  [sound], [copied] = audio_packets(source), audio_packets(target)
  assert [data for data, _ in copied] == [data for data, _ in sound]
  shift = times(target)[0] - times(source)[0]
  late = [t - s - shift for t, s in zip(times(target), times(source), strict=True)]
  late += [t - s - shift for (_, t), (_, s) in zip(copied, sound, strict=True)]
  if extension == '.mkv':  # times are milliseconds from 0, and AAC begins a little before that
    assert 0 <= shift < 0.024
    assert max(map(abs, late)) <= Fraction(1, 1000)
  else:
    assert shift == 0
    assert set(late) == {0}
  assert [path.name for path in sorted(tmp_path.iterdir())] == ['in.mp4', target.name]


@pytest.mark.parametrize('extension', ['.mp4', '.mkv'])
def test_a_variable_frame_rate(extension, tmp_path):
  stamps = [0, 40, 41, 90, 300, 301, 302, 1000, 1033, 1066, 1100, 1500]
  source = make_video(tmp_path / 'in.mkv', times=stamps, time_base=Fraction(1, 1000), audio=None)
  restore(source, tmp_path / f'out{extension}', segment_frames=5)
  assert times(tmp_path / f'out{extension}') == [Fraction(t, 1000) for t in stamps]


def test_an_odd_time_base(tmp_path):
  stamps = [1001 * i for i in range(12)]
  source = make_video(tmp_path / 'in.mp4', times=stamps, time_base=Fraction(1, 24000), audio=None)
  restore(source, tmp_path / 'out.mp4', segment_frames=1)
  assert times(tmp_path / 'out.mp4') == [Fraction(t, 24000) for t in stamps]
  with av.open(str(source)) as before, av.open(str(tmp_path / 'out.mp4')) as after:
    assert after.streams.video[0].average_rate == before.streams.video[0].average_rate
    assert after.duration == before.duration


def test_time_stamps_that_are_missing_or_double(tmp_path):
  stamps = [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]
  source = make_video(tmp_path / 'in.avi', times=stamps, audio=None)  # has the order of decoding
  restorer = restore(source, tmp_path / 'avi.mp4')
  assert times(tmp_path / 'avi.mp4') == [Fraction(i, 24) for i in stamps]
  for image, original in zip(restorer.inputs, moving(12), strict=True):
    assert np.abs(image.astype(int) - original).mean() < 4
  source = make_video(tmp_path / 'in.h264', audio=None)  # has none
  assert {frame.pts for frame in decoded(source)} == {None}
  restore(source, tmp_path / 'out.mp4')
  assert times(tmp_path / 'out.mp4') == [Fraction(i, 25) for i in range(12)]
  options = {'codec': 'ffv1', 'times': [0, 40, 40, 80], 'time_base': Fraction(1, 1000)}
  source = make_video(tmp_path / 'in.mkv', moving(4), audio=None, **options)
  restore(source, tmp_path / 'double.mp4')
  assert times(tmp_path / 'double.mp4') == [Fraction(t, 1000) for t in (0, 40, 41, 80)]


@pytest.mark.parametrize(('video_start', 'audio_start'), [(0, 0.25), (5, 0), (7, 1.5)])
@pytest.mark.parametrize('name', ['in.mp4', 'in.mkv', 'in.ts'])
def test_sound_stays_in_step(name, video_start, audio_start, tmp_path):
  stamps = range(video_start, video_start + 12)
  source = make_video(tmp_path / name, times=stamps, audio='mp2', audio_start=audio_start)
  restore(source, tmp_path / 'out.mp4')
  [before], [after] = audio_packets(source), audio_packets(tmp_path / 'out.mp4')
  assert [data for data, _ in after] == [data for data, _ in before]
  offset = before[0][1] - times(source)[0]
  assert abs(after[0][1] - times(tmp_path / 'out.mp4')[0] - offset) < Fraction(1, 10_000)
  shown = [t - times(source)[0] for t in times(source)]
  assert [t - times(tmp_path / 'out.mp4')[0] for t in times(tmp_path / 'out.mp4')] == shown
  with av.open(str(tmp_path / 'out.mp4')) as container:
    assert abs(container.start_time) < 50_000  # microseconds; .ts starts at 1.4 s


@pytest.mark.parametrize('extension', ['.mp4', '.mkv'])
def test_what_was_cut_off_stays_so(extension, tmp_path):
  frames = moving(48)
  source = make_video(tmp_path / 'in.mp4', frames, times=range(-24, 24), audio_start=-1)
  target = tmp_path / f'out{extension}'
  assert len(restore(source, target).inputs) == 24
  [before], [after] = audio_packets(source), audio_packets(target)
  assert before[0][1] < -0.9
  late = times(target)[0]
  if extension == '.mp4':
    assert (late, after) == (0, before)
  else:
    assert 0 <= late < 0.05
    assert 0 <= after[0][1] < 0.05
    assert before[-len(after)][0] == after[0][0]
    assert abs(after[-1][1] - late - before[-1][1]) <= Fraction(1, 1000)


def test_metadata_in_another_encoding(tmp_path):
  source = make_video(tmp_path / 'in.avi', audio=None, metadata={'title': 'Sok'})
  source.write_bytes(source.read_bytes().replace(b'Sok', b'S\xf8k'))
  restore(source, tmp_path / 'out.mp4')
  with av.open(str(tmp_path / 'out.mp4')) as container:
    assert container.metadata['title'] == 'S\ufffdk'


def test_several_audio_streams(tmp_path):
  source = tmp_path / 'in.mkv'
  frame = av.VideoFrame.from_ndarray(moving(1)[0])
  with av.open(str(source), 'w') as output:
    video = output.add_stream('libx264', rate=24, width=64, height=48, pix_fmt='yuv420p')
    sounds = [output.add_stream(codec, rate=RATE) for codec in ('aac', 'flac', 'pcm_s16le')]
    sounds[2].disposition = av.stream.Disposition.comment
    output.mux(video.encode(frame) + video.encode(None))
    for sound in sounds:
      output.mux(encode_sound(sound, 0.2, 0))
  restore(source, tmp_path / 'out.mkv')
  before, after = audio_packets(source), audio_packets(tmp_path / 'out.mkv')
  assert len(after) == 3
  with av.open(str(tmp_path / 'out.mkv')) as container:
    dispositions = [stream.disposition for stream in container.streams.audio]
    assert dispositions == [0, 0, av.stream.Disposition.comment]
  assert [[data for data, _ in s] for s in after] == [[data for data, _ in s] for s in before]


@pytest.mark.parametrize('degrees', [0, 90, 180, 270])
@pytest.mark.parametrize('mirrored', [False, True])
def test_frames_are_turned_upright(degrees, mirrored, tmp_path):
  frames = moving(3)
  look = {'sample_aspect_ratio': Fraction(4, 3)}
  rotation = (degrees, mirrored)
  source = make_video(tmp_path / 'in.mp4', frames, rotation=rotation, look=look, audio=None)
  restorer = restore(source, tmp_path / 'out.mp4', crf=1)
  for image, stored, shown in zip(
    restorer.inputs, decoded(source), decoded(tmp_path / 'out.mp4'), strict=True
  ):
    upright = np.rot90(luma(stored), degrees // 90)  # counterclockwise
    upright = np.fliplr(upright) if mirrored else upright
    assert image.shape == (*upright.shape, 3)
    expected = upright.repeat(4, axis=0).repeat(4, axis=1)
    assert np.abs(luma(shown) - expected).max() <= 3
    assert shown.rotation == 0
  with av.open(str(tmp_path / 'out.mp4')) as container:
    aspect = Fraction(3, 4) if degrees in (90, 270) else Fraction(4, 3)
    assert container.streams.video[0].sample_aspect_ratio == aspect
  shape = struct.pack('>4sII', b'pasp', aspect.numerator, aspect.denominator)
  assert shape in (tmp_path / 'out.mp4').read_bytes()


@pytest.mark.parametrize(('orientation', 'turns'), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_photos_in_a_row_are_turned_upright(orientation, turns, tmp_path):
  exif = Image.Exif()
  exif[ExifTags.Base.Orientation] = orientation
  with av.open(str(tmp_path / 'in.mov'), 'w') as output:
    stream = output.add_mux_stream('mjpeg', rate=24, width=64, height=48)
    for i, image in enumerate(moving(3)):
      buffer = io.BytesIO()
      Image.fromarray(image).save(buffer, 'JPEG', exif=exif, quality=95, subsampling=0)
      packet = av.Packet(buffer.getvalue())
      packet.pts = packet.dts = i
      packet.time_base, packet.stream = Fraction(1, 24), stream
      output.mux(packet)
  restorer = restore(tmp_path / 'in.mov', tmp_path / 'out.mp4')
  for image, stored in zip(restorer.inputs, moving(3), strict=True):
    assert np.abs(np.rot90(stored, turns).astype(int) - image).mean() < 5  # JPEG's loss


# The share of red and blue in brightness: ITU-R BT.709, BT.601, BT.2020.
MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
COLOURS = [(200, 30, 40), (20, 180, 60), (40, 50, 220), (128, 128, 128), (250, 220, 30)]


def rgb_to_yuv(rgb, matrix, full):
  red, blue = MATRICES[matrix]
  r, g, b = (value / 255 for value in rgb)
  y = red * r + (1 - red - blue) * g + blue * b
  u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
  if full:
    return 255 * y, 128 + 255 * u, 128 + 255 * v
  return 16 + 219 * y, 128 + 224 * u, 128 + 224 * v


def constant(yuv, width, height, pix_fmt):
  frame = av.VideoFrame(width, height, pix_fmt)
  for plane, value in zip(frame.planes, yuv, strict=True):
    deep = '10' in pix_fmt
    value = round(4 * value) if deep else round(value)
    data = np.full(plane.buffer_size // (1 + deep), value, '<u2' if deep else 'u1')
    plane.update(data.tobytes())
  return frame


@pytest.mark.parametrize(
  ('size', 'matrix', 'tagged', 'full', 'pix_fmt'),
  [
    ((64, 48), 6, True, False, 'yuv420p'),
    ((64, 48), 5, True, True, 'yuv422p'),
    ((64, 48), 1, True, False, 'yuv444p'),
    ((64, 48), 1, True, True, 'yuv420p'),
    ((64, 48), 9, True, False, 'yuv420p10le'),
    ((64, 48), 6, False, False, 'yuv420p'),
    ((720, 576), 6, False, False, 'yuv420p'),
    ((1280, 16), 1, False, False, 'yuv420p'),
    ((16, 580), 1, False, False, 'yuv420p'),
    ((1280, 720), 6, True, False, 'yuv420p'),
  ],
)
def test_colours(size, matrix, tagged, full, pix_fmt, tmp_path):
  source, target = tmp_path / 'in.mkv', tmp_path / 'out.mkv'
  with av.open(str(source), 'w') as output:
    video = output.add_stream('ffv1', rate=24, width=size[0], height=size[1], pix_fmt=pix_fmt)
    if tagged:
      video.colorspace, video.color_range = matrix, 1 + full
      video.color_primaries, video.color_trc = 9, 1
    for colour in COLOURS:
      frame = constant(rgb_to_yuv(colour, matrix, full), *size, pix_fmt)
      if tagged:
        frame.colorspace, frame.color_range = matrix, 1 + full
      output.mux(video.encode(frame))
    output.mux(video.encode(None))
  restorer = restore(source, target, Enlarge(scale=1), crf=1)
  for colour, image, frame in zip(COLOURS, restorer.inputs, decoded(target), strict=True):
    assert np.abs(image.astype(int) - colour).max() <= 2
    assert (frame.color_range, frame.format.name) == (1, 'yuv420p')
    assert frame.colorspace in ({5, 6} if matrix in (5, 6) else {matrix})
    assert (frame.color_primaries, frame.color_trc) == ((9, 1) if tagged else (2, 2))
    stored = [bytes(plane)[0] for plane in frame.planes]
    assert np.abs(np.subtract(stored, rgb_to_yuv(colour, matrix, False))).max() <= 2


def test_odd_sizes_are_kept(tmp_path):
  source = make_video(tmp_path / 'in.mkv', moving(3, 33, 25), pix_fmt='yuv444p', audio=None)
  restore(source, tmp_path / 'out.mp4', Enlarge(scale=1), crf=1)
  assert_enlarged(tmp_path / 'out.mp4', source, scale=1)
  large = tmp_path / 'new' / 'folder' / 'large.mp4'
  restore(source, large, crf=1)
  assert_enlarged(large, source)
  assert decoded(large)[0].format.name == 'yuv420p'


def test_an_animation_is_a_video(tmp_path):
  source = make_video(tmp_path / 'in.gif', codec='gif', pix_fmt='rgb8', audio=None)
  restorer = restore(source, tmp_path / 'out.mp4')
  assert len(restorer.inputs) == len(decoded(tmp_path / 'out.mp4')) == 12
  assert np.abs(restorer.inputs[5].astype(int) - moving()[5]).mean() < 30  # of 256 colours


def test_hdr_is_said(tmp_path, capsys):
  source = make_video(
    tmp_path / 'in.mp4', moving(2), matrix=9, tags={'color_primaries': 9, 'color_trc': 18}
  )
  restore(source, tmp_path / 'out.mp4')
  assert 'in.mp4 is HDR (HLG), which is reduced to 8 bits\n' in capsys.readouterr().err
  frame = decoded(tmp_path / 'out.mp4')[0]
  assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (9, 9, 18)
  # In the container too, of limited range: primaries, transfer, matrix.
  assert b'colrnclx\0\x09\0\x12\0\x09\0' in (tmp_path / 'out.mp4').read_bytes()


def test_an_interrupted_video_is_continued(tmp_path, capsys):
  source = make_video(tmp_path / 'in.mp4')
  restore(source, tmp_path / 'whole.mp4', segment_frames=3)
  target, folder = tmp_path / 'out.mp4', tmp_path / 'out.mp4.segments'
  with pytest.raises(KeyboardInterrupt):
    restore(source, target, Enlarge(interrupt_at=7), segment_frames=3)
  assert not target.exists()
  assert sorted(os.listdir(folder)) == ['000000.nut', '000001.nut', 'manifest.json']
  messages = capsys.readouterr().err
  assert f'finished frames are in {folder}; the same command continues\n' in messages
  assert 'continuing' not in messages
  restorer = restore(source, target, segment_frames=3)
  assert len(restorer.inputs) == 6
  messages = capsys.readouterr().err
  assert f'continuing at frame 7; earlier frames are in {folder}\n' in messages
  assert ' 6/12 [00:00<?' in messages
  assert target.read_bytes() == (tmp_path / 'whole.mp4').read_bytes()
  assert not folder.exists()


def test_the_next_frame_is_decoded_and_the_last_one_encoded_meanwhile(tmp_path, monkeypatch):
  log, decodes, encodes = Log(), itertools.count(), itertools.count()
  decode = log.after(video_module.to_rgb, lambda *_: f'decode {next(decodes)}')
  convert = video_module.from_rgb

  def encode(*args):
    number = next(encodes)
    if number < 11:
      log.wait_for(f'restore {number + 1}')
    log.add(f'encode {number}')
    return convert(*args)

  monkeypatch.setattr(video_module, 'to_rgb', decode)
  monkeypatch.setattr(video_module, 'from_rgb', encode)

  class Waiting(Enlarge):
    def __call__(self, image):
      number = len(self.inputs)
      log.add(f'restore {number}')
      log.wait_for(f'decode {min(number + 1, 11)}', *[f'encode {number - 1}'] * (number > 0))
      assert f'decode {number + 2}' not in log.events
      return super().__call__(image)

  source = make_video(tmp_path / 'in.mp4')
  restorer = restore(source, tmp_path / 'out.mp4', Waiting(), segment_frames=5, crf=1)
  assert len(restorer.inputs) == 12
  assert_enlarged(tmp_path / 'out.mp4', source)


@pytest.mark.parametrize('change', ['settings', 'source', 'crf', 'segment_frames', 'scale'])
def test_segments_of_another_run_are_not_used(change, tmp_path, capsys):
  source = make_video(tmp_path / 'in.mp4')
  target, folder = tmp_path / 'out.mp4', tmp_path / 'out.mp4.segments'
  options = {'settings': SETTINGS, 'segment_frames': 3, 'crf': 18}
  with pytest.raises(KeyboardInterrupt):
    restore_video(Enlarge(interrupt_at=7), source, target, **options)
  (folder / 'notes.txt').write_text('not ours')
  if change == 'source':
    make_video(source, moving()[::-1])
  elif change != 'scale':
    options[change] = {'settings': {'weights': 'def'}, 'crf': 20, 'segment_frames': 4}[change]
  restorer = Enlarge(scale=1 if change == 'scale' else 4)
  restore_video(restorer, source, target, **options)
  assert len(restorer.inputs) == 12
  assert f'{folder} is from another source or other settings' in capsys.readouterr().err
  assert_enlarged(target, source, restorer.scale, atol=40)
  assert os.listdir(folder) == ['notes.txt']


def test_a_killed_process_is_continued(tmp_path):
  source = make_video(tmp_path / 'in.mp4')
  code = (
    'import sys, time\n'
    'from gfn_jax.restoration.video import restore_video\n'
    'class Slow:\n'
    '  scale = 4\n'
    '  def __call__(self, image):\n'
    '    time.sleep(0.1)\n'
    '    return image.repeat(4, 0).repeat(4, 1)\n'
    f'restore_video(Slow(), *sys.argv[1:], settings={SETTINGS!r}, segment_frames=2)\n'
  )
  target, folder = tmp_path / 'out.mp4', tmp_path / 'out.mp4.segments'
  process = subprocess.Popen([sys.executable, '-c', code, str(source), str(target)])
  deadline = time.monotonic() + 60
  while not (folder / '000001.nut').exists():
    assert process.poll() is None
    assert time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert not target.exists()
  restorer = restore(source, target, segment_frames=2)
  assert 2 <= len(restorer.inputs) <= 8
  assert_enlarged(target, source, atol=40)
  assert sorted(os.listdir(tmp_path)) == ['in.mp4', 'out.mp4']


def test_a_damaged_segment_is_noticed(tmp_path):
  source = make_video(tmp_path / 'in.mp4')
  target = tmp_path / 'out.mp4'
  with pytest.raises(KeyboardInterrupt):
    restore(source, target, Enlarge(interrupt_at=7), segment_frames=3)
  segment = tmp_path / 'out.mp4.segments' / '000000.nut'
  assert segment.stat().st_size > 4000
  os.truncate(segment, 2000)
  with pytest.raises(UserError, match=r'out.mp4.segments is damaged; remove it and start again'):
    restore(source, target, segment_frames=3)
  assert not target.exists()


def truncated(path, share):
  path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
  return path


def readable(path):
  """The times of the frames that can be decoded, and their number before the first error."""
  shown, first = [], None
  with av.open(str(path)) as container:
    for packet in container.demux(video=0):
      try:
        shown += [(frame.pts or 0) * frame.time_base for frame in packet.decode()]
      except av.InvalidDataError:
        first = len(shown) if first is None else first
  return shown, first


@pytest.mark.parametrize('share', [0.4, 0.97])
@pytest.mark.parametrize(
  ('name', 'codec', 'audio'),
  [
    ('in.mkv', 'libx264', 'aac'),
    ('in.webm', 'libvpx', None),
    ('in.mp4', 'libx264', 'aac'),
    ('in.mov', 'mpeg4', None),
    ('in.avi', 'mpeg4', 'mp2'),
    ('in.wmv', 'mpeg4', 'mp2'),
  ],
)
def test_a_truncated_file_is_refused(name, codec, audio, share, tmp_path, capsys):
  options = {'movflags': 'faststart'} if name in ('in.mp4', 'in.mov') else None
  source = make_video(tmp_path / name, moving(24), codec=codec, audio=audio, options=options)
  whole = source.stat().st_size
  truncated(source, share)
  sizes = rf'truncated file \(expected (\S+) bytes, found {source.stat().st_size:,}\)'
  advice = 'pass --keep_damaged to restore what can be read'
  restorer = Enlarge()
  with pytest.raises(UserError, match=rf'{name} is damaged: {sizes}; {advice}') as caught:
    restore(source, tmp_path / 'out.mkv', restorer)
  expected = int(re.search(sizes, str(caught.value)).group(1).replace(',', ''))
  assert whole - 200 < expected <= whole  # an index may follow
  assert not restorer.inputs
  assert os.listdir(tmp_path) == [name]
  restore(source, tmp_path / 'out.mkv', keep_damaged=True)
  count = len(readable(source)[0])
  assert 0 < count <= 24
  if share < 0.5:
    assert count < 18
  assert len(decoded(tmp_path / 'out.mkv')) == count
  assert re.search(
    rf'{name} is damaged: {sizes}; \S*out.mkv has the {count} frames that can be read\n',
    capsys.readouterr().err,
  )


def test_a_truncated_file_whose_container_declares_no_size(tmp_path):
  source = make_video(tmp_path / 'in.flv', moving(60), audio='aac')
  restore(source, tmp_path / 'whole.mkv')
  truncated(source, 0.4)
  message = r'in.flv is damaged: truncated file \(expected 2\.6 s, ends after [01]\.\d s\); pass'
  with pytest.raises(UserError, match=message):
    restore(source, tmp_path / 'out.mkv')
  assert sorted(os.listdir(tmp_path)) == ['in.flv', 'whole.mkv']


class Pipe(io.RawIOBase):
  """A file that cannot be rewritten, as in a live recording."""

  def __init__(self):
    self.content = bytearray()

  def writable(self):
    return True

  def write(self, data):
    self.content += data
    return len(data)


def live_recording(path):
  """Has neither sizes nor a duration."""
  pipe = Pipe()
  with av.open(pipe, 'w', format='matroska') as output:
    video = output.add_stream('libx264', rate=24, width=64, height=48, pix_fmt='yuv420p')
    for image in moving(24):
      output.mux(video.encode(av.VideoFrame.from_ndarray(image)))
    output.mux(video.encode(None))
  path.write_bytes(pipe.content)
  assert b'\x18\x53\x80\x67\x01' + 7 * b'\xff' in pipe.content
  return path


def long_sound(path):
  make_video(path.with_suffix('.mkv'), moving(96))
  with av.open(str(path.with_suffix('.mkv'))) as source, av.open(str(path), 'w') as output:
    video, sound = source.streams
    streams = [output.add_stream_from_template(stream) for stream in (video, sound)]
    for packet in source.demux():
      if packet.size and (packet.stream is sound or packet.pts * packet.time_base < 1):
        packet.stream = streams[packet.stream_index]
        output.mux(packet)
  return path


def slide_show(path):
  stamps = [0, 5000, 10_000, 15_000]
  return make_video(path, moving(4), times=stamps, time_base=Fraction(1, 1000), audio=None)


def broadcast(path):
  """Cut the start of a stream, so that it begins between two key frames."""
  make_video(path, moving(24), audio='mp2')
  path.write_bytes(path.read_bytes()[188 * 30 :])
  return path


def joined(path):
  """Join three recordings in one file; the packet numbers restart in each."""
  parts = []
  for start in (0, 12, 24):
    part = path.with_name(f'{start}.ts')
    make_video(part, times=range(start, start + 12), audio='mp2', audio_start=start / 24)
    parts.append(part.read_bytes())
  path.write_bytes(b''.join(parts))
  return path


def with_bytes_at_the_end(path):
  make_video(path, moving(24))
  path.write_bytes(path.read_bytes() + b'\0\0\1\0appended' + bytes(99))
  return path


@pytest.mark.parametrize(
  ('name', 'make'),
  [
    ('live.mkv', live_recording),
    ('sound.webm.mkv', long_sound),
    ('sound.flv', long_sound),
    ('sound.mov', long_sound),
    ('slides.mkv', slide_show),
    ('slides.mp4', slide_show),
    ('slides.mov', slide_show),
    ('broadcast.ts', broadcast),
    ('joined.ts', joined),
    ('appended.mkv', with_bytes_at_the_end),
    ('appended.mp4', with_bytes_at_the_end),
    ('appended.avi', lambda path: with_bytes_at_the_end(path.with_suffix('.mp4'))),
  ],
)
def test_undamaged_videos_are_no_false_alarm(name, make, tmp_path, capsys):
  source = make(tmp_path / name)
  restorer = restore(source, tmp_path / 'out.mkv', Enlarge(scale=1))
  assert len(restorer.inputs) == len(decoded(source)) > 3
  assert 'damage' not in capsys.readouterr().err


def test_a_slide_show_without_declared_size(tmp_path):
  source = slide_show(tmp_path / 'in.mkv')
  content = bytearray(source.read_bytes())
  segment = content.index(b'\x18\x53\x80\x67') + 4
  content[segment : segment + 8] = b'\x01' + 7 * b'\xff'
  duration = content.index(b'\x44\x89\x88') + 3
  content[duration : duration + 8] = struct.pack('>d', 20_000)  # the last slide lasts 5 s too
  source.write_bytes(content)
  assert len(restore(source, tmp_path / 'out.mkv').inputs) == 4
  content[duration : duration + 8] = struct.pack('>d', 40_000)
  source.write_bytes(content)
  with pytest.raises(UserError, match=r'truncated file \(expected 40\.0 s, ends after 20\.0 s\)'):
    restore(source, tmp_path / 'out.mp4')


def test_damage_inside_a_file(tmp_path, capsys):
  source, target = make_video(tmp_path / 'in.mp4', moving(60), audio=None), tmp_path / 'out.mp4'
  content = bytearray(source.read_bytes())
  for third in (len(content) // 3, 2 * len(content) // 3):
    content[third : third + len(content) // 16] = bytes(len(content) // 16)
  source.write_bytes(content)
  shown, first = readable(source)
  assert 10 < first < len(shown) < 60
  reason = rf'Invalid data found when processing input after frame {first} \(\d\.\d s\)'
  restorer = Enlarge()
  with pytest.raises(UserError, match=rf'in.mp4 is damaged: {reason}; pass --keep_damaged'):
    restore(source, target, restorer, segment_frames=5)
  assert not target.exists()
  assert f'finished frames are in {target}.segments; --keep_damaged continues\n' in (
    capsys.readouterr().err
  )
  rest = restore(source, target, segment_frames=5, keep_damaged=True)
  assert len(rest.inputs) == len(shown) - first // 5 * 5
  assert re.search(
    rf'in.mp4 is damaged: {reason}; \S*out.mp4 has the {len(shown)} frames that can be read\n',
    capsys.readouterr().err,
  )
  # After damage, decoders may give a frame after a later one; it is shown right after that.
  tick = Fraction(1, 12288)
  assert times(target) == list(itertools.accumulate(shown, lambda a, b: max(a + tick, b)))
  assert sorted(os.listdir(tmp_path)) == ['in.mp4', 'out.mp4']


@pytest.mark.parametrize(('name', 'codec'), [('in.mkv', 'mpeg4'), ('in.webm', 'libvpx')])
def test_matroska_with_a_hole(name, codec, tmp_path):
  source = make_video(tmp_path / name, moving(60), codec=codec, audio=None)
  assert damaged_at(source) is None
  content = bytearray(source.read_bytes())
  middle, length = len(content) // 2, len(content) // 12
  content[middle : middle + length] = bytes(length)
  source.write_bytes(content)
  position = damaged_at(source)
  assert middle <= position < middle + length
  message = rf'{name} is damaged: invalid data at byte {position:,}; pass --keep_damaged'
  with pytest.raises(UserError, match=message):
    restore(source, tmp_path / 'out.mkv')
  restorer = restore(source, tmp_path / 'out.mkv', keep_damaged=True)
  assert len(restorer.inputs) == len(readable(source)[0]) < 60


def test_packets_that_are_missing_in_a_broadcast(tmp_path):
  source = make_video(tmp_path / 'in.ts', moving(60), audio=None)
  content = bytearray(source.read_bytes())
  middle = len(content) // 376 * 188
  del content[middle : middle + 20 * 188]
  source.write_bytes(content)
  with pytest.raises(UserError, match=r'in.ts is damaged: damaged frame after frame \d\d \('):
    restore(source, tmp_path / 'out.mp4')


def flagged(frame, mode):
  """Flags a frame as progressive (`prog`) or as interlaced: the top or bottom field comes first."""
  graph = av.filter.Graph()
  source = graph.add_buffer(
    width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
  )
  field = graph.add('setfield', f'mode={mode}')
  graph.link_nodes(source, field, graph.add('buffersink')).configure()
  graph.vpush(frame)
  result = graph.vpull()
  result.pts = frame.pts
  return result


def make_interlaced(path, modes, stamps, rotation=None):
  """Writes grey video. Its second fields show the next picture. Returns those of the first ones."""
  pictures = [image[..., :1].repeat(3, -1) for image in moving(len(modes) + 1)]
  with av.open(str(path), 'w') as output:
    video = output.add_stream('ffv1', rate=25, width=64, height=48, pix_fmt='yuv420p')
    video.codec_context.time_base = Fraction(1, 1000)
    for i, (mode, pts) in enumerate(zip(modes, stamps, strict=True)):
      image = pictures[i].copy()
      if mode != 'prog':
        late = slice(1, None, 2) if mode == 'tff' else slice(0, None, 2)
        image[late] = pictures[i + 1][late]
      frame = av.VideoFrame.from_ndarray(image).reformat(format='yuv420p')
      frame.pts, frame.time_base = pts, Fraction(1, 1000)
      output.mux(video.encode(flagged(frame, mode)))
    output.mux(video.encode(None))
  return pictures[:-1]


@pytest.mark.parametrize(
  'modes',
  [
    8 * ['tff'],
    8 * ['bff'],
    ['prog', 'prog', 'tff', 'tff', 'prog', 'prog', 'bff', 'prog'],  # as in telecine
    ['tff'],
    ['prog', 'tff'],
  ],
)
def test_interlaced_frames_are_deinterlaced(modes, tmp_path, capsys):
  stamps = [0, 40, 80, 130, 300, 340, 381, 420][: len(modes)]
  source, target = tmp_path / 'in.mkv', tmp_path / 'out.mkv'
  pictures = make_interlaced(source, modes, stamps)
  assert [frame.interlaced_frame for frame in decoded(source)] == [m != 'prog' for m in modes]
  restorer = restore(source, target, crf=1)
  message = f'{source} is interlaced: its frames are deinterlaced (bwdif)\n'
  assert capsys.readouterr().err.count(message) == 1
  assert times(target) == [Fraction(t, 1000) for t in stamps]
  stored = [frame.to_ndarray(format='rgb24') for frame in decoded(source)]
  for mode, image, combed, picture in zip(modes, restorer.inputs, stored, pictures, strict=True):
    if mode == 'prog':
      assert np.abs(image.astype(int) - combed).max() <= 1
      continue
    first = slice(0, None, 2) if mode == 'tff' else slice(1, None, 2)
    assert np.abs(image[first].astype(int) - picture[first]).max() <= 2  # this field is kept
    if len(modes) == 8:
      errors = [np.abs(a.astype(int) - picture).mean() for a in (image, combed)]
      assert errors[0] < 0.6 * errors[1]
  for frame in decoded(target):
    assert not frame.interlaced_frame
  with av.open(str(target)) as container:
    assert container.streams.video[0].codec_context.field_order in (0, 1)  # unknown, progressive


@pytest.mark.parametrize(
  ('name', 'codec', 'pix_fmt', 'size'),
  [
    ('in.mov', 'dvvideo', 'yuv411p', (720, 480)),
    ('in.mkv', 'rawvideo', 'uyvy422', (64, 48)),  # of capture cards; bwdif does not take it
  ],
)
def test_deinterlaced_frames_keep_colours_and_rotation(name, codec, pix_fmt, size, tmp_path):
  source = tmp_path / name
  rate = Fraction(30000, 1001)
  images = [np.tile(image, (10, 12, 1))[: size[1], : size[0]] for image in moving(3)]
  with av.open(str(source), 'w') as output:
    video = output.add_stream(codec, rate=rate, width=size[0], height=size[1], pix_fmt=pix_fmt)
    video.colorspace, video.color_range = 1, 1
    video.codec_context.field_order = 2  # the top field first
    video.set_display_rotation(180, False)
    for pts, image in enumerate(images):
      frame = av.VideoFrame.from_ndarray(image).reformat(format=pix_fmt, dst_colorspace=1)
      frame.pts, frame.time_base = pts, 1 / rate
      output.mux(video.encode(flagged(frame, 'tff')))
    output.mux(video.encode(None))
  restorer = restore(source, tmp_path / 'out.mp4', Enlarge(1))
  for result, stored, image in zip(restorer.inputs, decoded(source), images, strict=True):
    assert stored.interlaced_frame
    assert stored.colorspace == (1 if name == 'in.mkv' else 2)
    upright = to_rgb(stored)
    assert np.abs(upright[::-1, ::-1].astype(int) - image).mean() < 10
    kept = [np.abs(result[i::2].astype(int) - upright[i::2]).max() for i in (0, 1)]
    assert min(kept) <= 1 < max(kept)


def test_an_interlaced_video_is_continued(tmp_path):
  source, target = tmp_path / 'in.mkv', tmp_path / 'out.mp4'
  make_interlaced(source, ['prog', *7 * ['tff']], range(0, 320, 40))
  whole = restore(source, tmp_path / 'whole.mp4', segment_frames=3)
  with pytest.raises(KeyboardInterrupt):
    restore(source, target, Enlarge(interrupt_at=5), segment_frames=3)
  restorer = restore(source, target, segment_frames=3)
  np.testing.assert_array_equal(restorer.inputs, whole.inputs[3:])
  assert target.read_bytes() == (tmp_path / 'whole.mp4').read_bytes()


def test_a_progressive_video_is_not_called_interlaced(tmp_path, capsys):
  source = make_video(tmp_path / 'in.mkv', audio=None)
  restore(source, tmp_path / 'out.mkv')
  assert capsys.readouterr().err.strip('\r\n ').count('in.mkv') == 0


def test_what_is_left_out_is_said(tmp_path, capsys):
  source = tmp_path / 'in.mkv'
  with av.open(str(source), 'w') as output:
    video = output.add_stream('ffv1', rate=24, width=64, height=48, pix_fmt='yuva444p10le')
    small = output.add_stream('ffv1', rate=24, width=32, height=32, pix_fmt='yuv420p')
    subtitles = [output.add_mux_stream('subrip') for _ in range(2)]
    second = Fraction(1, 1)
    chapters = [{'id': 1, 'start': 0, 'end': 1, 'time_base': second, 'metadata': {'title': 'A'}}]
    output.set_chapters(chapters)
    for stream, size in ((video, (64, 48)), (small, (32, 32))):
      frame = av.VideoFrame(*size, stream.pix_fmt)
      output.mux(stream.encode(frame) + stream.encode(None))
    for stream in subtitles:
      packet = av.Packet(b'text')
      packet.pts, packet.dts, packet.duration, packet.time_base = 0, 0, 500, Fraction(1, 1000)
      packet.stream = stream
      output.mux(packet)
  restore(source, tmp_path / 'out.mkv')
  lines = capsys.readouterr().err
  assert f'{source} has 10 bits, which are reduced to 8 bits\n' in lines
  left_out = '1 other video stream, 2 subtitle streams, 1 chapter, alpha'
  assert f'{source}: left out of the result: {left_out}\n' in lines


def test_nothing_is_said_of_a_plain_video(tmp_path, capsys):
  restore(make_video(tmp_path / 'in.mp4'), tmp_path / 'out.mp4')
  lines = capsys.readouterr().err
  assert 'left out' not in lines
  assert 'bits' not in lines


@pytest.mark.parametrize('name', [245 * 'n' + '.mp4', 81 * '漢' + 'x.mp4', 251 * 'n' + '.mkv'])
def test_long_names(name, tmp_path):
  source, target = make_video(tmp_path / 'in.mp4'), tmp_path / name
  with pytest.raises(KeyboardInterrupt):
    restore(source, target, Enlarge(interrupt_at=7), segment_frames=3)
  assert len(os.listdir(tmp_path)) == 2
  other = tmp_path / f'{name[:-5]}y{name[-4:]}'  # has a folder of its own
  with pytest.raises(KeyboardInterrupt):
    restore(source, other, Enlarge(interrupt_at=4), segment_frames=3)
  assert len(os.listdir(tmp_path)) == 3
  assert len(restore(source, target, segment_frames=3).inputs) == 6
  assert len(decoded(target)) == 12
  source.rename(tmp_path / f'{name[:-5]}z.mp4')
  restore(tmp_path / f'{name[:-5]}z.mp4', tmp_path / 'out.mp4')


def test_frames_of_another_size_are_named(tmp_path):
  source = tmp_path / 'in.ts'
  parts = [make_video(tmp_path / f'{w}.ts', moving(4, w), audio=None) for w in (64, 80)]
  source.write_bytes(b''.join(part.read_bytes() for part in parts))
  message = r'from 64x48 to 80x48 after frame 4 \(0\.2 s\); split the video there'
  with pytest.raises(UserError, match=message):
    restore(source, tmp_path / 'out.mp4')


def test_time_that_goes_back_is_named(tmp_path):
  source = make_video(tmp_path / 'part.ts', moving(60), audio=None).rename(tmp_path / 'in.ts')
  source.write_bytes(2 * source.read_bytes())
  with pytest.raises(UserError, match=r'in.ts: time stamps decrease after frame 60 \(2\.5 s\)'):
    restore(source, tmp_path / 'out.mp4')


def song_with_cover(path):
  cover = av.VideoFrame.from_ndarray(moving(1)[0]).reformat(format='yuvj420p')
  with av.open(str(path), 'w') as output:
    sound = output.add_stream('libmp3lame', rate=RATE)
    picture = output.add_stream('mjpeg', rate=1, width=64, height=48, pix_fmt='yuvj420p')
    picture.disposition = av.stream.Disposition.attached_pic
    output.mux(picture.encode(cover) + picture.encode(None))
    output.mux(encode_sound(sound, 1, 0))
  return path


def playlist(path):
  """Would make FFmpeg read another file."""
  make_video(path.parent / 'secret.ts', audio=None)
  path.write_text('#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n')
  return path


def picture(path):
  Image.fromarray(PHOTO).save(path)
  return path


def animated_png(path):
  return make_video(path.with_suffix('.apng'), codec='apng', pix_fmt='rgb24', audio=None).rename(
    path
  )


def burst(path):
  picture(path.with_suffix('.jpg'))
  path.write_bytes(2 * path.with_suffix('.jpg').read_bytes())
  return path


def text(path):
  path.write_text('no video\n' * 100)
  return path


def sound_only(path):
  with av.open(str(path), 'w') as output:
    output.mux(encode_sound(output.add_stream('aac', rate=RATE), 1, 0))
  return path


@pytest.mark.parametrize(
  ('name', 'make', 'expected'),
  [
    ('a.mkv', make_video, True),
    ('a.unknown', lambda path: make_video(path.with_suffix('.ts')).rename(path), True),
    ('none', lambda path: make_video(path.with_suffix('.avi')).rename(path), True),
    ('damaged.mp4', text, True),
    ('damaged.avi', text, True),
    ('a.gif', lambda path: make_video(path, codec='gif', pix_fmt='rgb8', audio=None), True),
    ('still.gif', picture, False),
    ('a.png', picture, False),
    ('a.tga', picture, False),
    ('moving.png', animated_png, False),
    ('burst', burst, False),
    ('song.mp3', song_with_cover, False),
    ('notes.txt', text, False),
    ('list.m3u8', playlist, False),
    ('missing', lambda path: path, False),
    ('folder', lambda path: path.mkdir() or path, False),
  ],
)
def test_is_video(name, make, expected, tmp_path):
  assert is_video(make(tmp_path / name)) is expected


@pytest.mark.parametrize(
  ('name', 'make', 'message'),
  [
    ('in.mp4', text, 'cannot read .*in.mp4 as a video: Invalid data found'),
    ('in.txt', text, 'cannot read .*in.txt as a video: Invalid data found'),
    ('in.mp4', sound_only, 'in.mp4 has no video stream that can be decoded'),
    ('in.mp3', song_with_cover, 'in.mp3 has no video stream that can be decoded'),
    ('in.m3u8', playlist, 'cannot read .*in.m3u8 as a video'),
    ('in.mp4', lambda path: path, 'no such file: .*in.mp4'),
    ('in\n.mp4', lambda path: path, r'no such file: .*in\\n.mp4'),
    ('folder', lambda path: path.mkdir() or path, 'no such file: .*folder'),
    (
      'in.mkv',
      lambda path: make_video(path, [np.zeros((4, 4100, 3), np.uint8)], audio=None),
      'in.mkv: H.264 cannot encode frames of 16400x16',
    ),
  ],
)
def test_bad_sources(name, make, message, tmp_path):
  source = make(tmp_path / name)
  with pytest.raises(UserError, match=message) as caught:
    restore(source, tmp_path / 'out.mp4')
  assert len(str(caught.value).splitlines()) == 1
  assert not [path for path in tmp_path.iterdir() if path.name.startswith('out')]


def test_bad_targets(tmp_path):
  source = make_video(tmp_path / 'in.mp4')
  (tmp_path / 'folder.mp4').mkdir()
  (tmp_path / 'there.mp4').write_text('precious')
  os.link(source, tmp_path / 'same.mp4')
  for name, message in [
    ('out.webm', r'out.webm: unknown extension; choose from .mp4, .m4v, .mov, .mkv'),
    ('out', 'out: unknown extension; choose from'),
    ('in.mp4', 'in.mp4 would be overwritten; choose another output'),
    ('same.mp4', 'in.mp4 would be overwritten; choose another output'),
    ('folder.mp4', 'folder.mp4 is a folder'),
    ('there.mp4', 'there.mp4 exists already'),
  ]:
    overwrite = name != 'there.mp4'
    with pytest.raises(UserError, match=message):
      restore(source, tmp_path / name, overwrite=overwrite)
  assert (tmp_path / 'there.mp4').read_text() == 'precious'
  assert len(decoded(source)) == 12
  assert not list(tmp_path.glob('*.segments'))
  restore(source, tmp_path / 'there.mp4', overwrite=True)
  assert len(decoded(tmp_path / 'there.mp4')) == 12


@pytest.mark.parametrize('options', [{'crf': 52}, {'crf': -1}, {'segment_frames': 0}])
def test_bad_arguments(options, tmp_path):
  with pytest.raises(ValueError, match=f'{next(iter(options))} is'):
    restore('in.mp4', tmp_path / 'out.mp4', **options)


@pytest.mark.parametrize(
  ('name', 'codec', 'extension', 'advice'),
  [
    ('in.mkv', 'flac', '.mov', 'choose .mp4 or .m4v or .mkv'),
    ('in.avi', 'pcm_mulaw', '.mkv', 'choose .mov'),
    ('in.avi', 'pcm_s16le', '.mp4', 'choose .mov or .mkv'),  # refused with the last byte
    ('in.avi', 'adpcm_ms', '.mp4', r'convert it first \(ffmpeg -i IN -c:v copy -c:a aac OUT.mkv\)'),
  ],
)
def test_sound_that_the_target_cannot_hold(name, codec, extension, advice, tmp_path):
  source = make_video(tmp_path / name, audio=codec)
  restorer = Enlarge()
  message = rf'{extension} cannot contain the audio of \S*{name} \({codec}\); {advice}'
  with pytest.raises(UserError, match=message):
    restore(source, tmp_path / f'out{extension}', restorer)
  assert not restorer.inputs
  assert os.listdir(tmp_path) == [name]


def test_a_full_disk(tmp_path):
  source = make_video(tmp_path / 'in.mp4')
  target = tmp_path / 'out.mp4'
  _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

  def restore_with(limit):
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
      restore(source, target, segment_frames=6, crf=5)
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

  with pytest.raises(UserError, match='cannot write .*000000.nut: File too large'):
    restore_with(5000)
  assert os.listdir(tmp_path) == ['in.mp4']
  with pytest.raises(KeyboardInterrupt):
    restore(source, target, Enlarge(interrupt_at=11), segment_frames=6, crf=5)
  limit = 50 + (tmp_path / 'out.mp4.segments' / '000000.nut').stat().st_size
  with pytest.raises(UserError, match='cannot write .*out.mp4: File too large'):
    restore_with(limit + 5000)
  assert sorted(os.listdir(tmp_path)) == ['in.mp4', 'out.mp4.segments']
  restorer = restore(source, target, segment_frames=6, crf=5)
  assert not restorer.inputs
  assert len(decoded(target)) == 12


def test_without_pyav(tmp_path, monkeypatch):
  source = make_video(tmp_path / 'in.ts')
  monkeypatch.setitem(sys.modules, 'av', None)
  with pytest.raises(UserError, match=r"videos require PyAV: pip install 'gfn_jax\[video\]'"):
    restore(source, tmp_path / 'out.mp4')
  assert is_video('in.mp4')
  assert not is_video(tmp_path / 'in.unknown')


def test_with_a_network(tmp_path):
  source = make_video(tmp_path / 'in.mp4', moving(3, 32, 32))
  network = Restorer.from_pretrained('gfn')
  inputs, outputs = [], []

  def keep(image):
    inputs.append(image)
    outputs.append(network(image))
    return outputs[-1]

  keep.scale = 4
  restore(source, tmp_path / 'out.mp4', keep, crf=1)
  for output, frame in zip(outputs, decoded(tmp_path / 'out.mp4'), strict=True):
    shown = frame.reformat(format='rgb24', src_colorspace=5, src_color_range=1).to_ndarray()
    assert np.abs(shown.astype(int) - output).mean() < 3
    assert np.abs(output.astype(int) - inputs[0].repeat(4, 0).repeat(4, 1)).max() > 10
