"""Decoding and encoding of videos with PyAV, with correct time stamps, rotation and colours."""

import collections
import contextlib
import itertools
import math
import mimetypes
import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from gfn_jax.errors import UserError, install_extra
from gfn_jax.images.containers import damaged_at, declared_size
from gfn_jax.system.console import print_message
from gfn_jax.system.files import extension_of, printable

FORMATS = {'.mp4': 'mp4', '.m4v': 'mp4', '.mov': 'mov', '.mkv': 'matroska'}
"""FFmpeg formats of the videos that can be written, by extension. AVI lacks time stamps, and WebM
cannot hold H.264."""

EXTENSIONS = (*FORMATS, '.3gp', '.avi', '.flv', '.m2ts', '.mpeg', '.mpg', '.mts', '.webm', '.wmv')
"""Extensions by which a file in a folder counts as a video."""

# Values of FFmpeg and ITU-T H.273.
_LIMITED = 1
_BT709, _BT601 = 1, 5
_MATRICES = {
  1: 1,
  4: 4,
  5: 5,
  6: 5,
  7: 7,
  9: 9,
}  # matrices that FFmpeg converts, and its numbers for them
HDR = {16: 'PQ', 18: 'HLG'}
"""Transfer functions of high-dynamic-range videos."""

_COMMON_DURATION = ('matroska,webm', 'flv')  # their header has one duration for all streams


def is_video(path: str | os.PathLike) -> bool:
  """Return True if a file is a video, by its extension, or by its content if that is ambiguous.

  A damaged `.mp4` counts as a video, so that opening it reports the damage. For `.gif` and unknown
  extensions the content decides: an animation is a video, a still image or a cover image is not.
  Without PyAV the content is not examined.
  """
  kind = mimetypes.guess_type(os.fspath(path))[0] or ''
  if kind.startswith('video/') or extension_of(path) in FORMATS:
    return True
  if kind.startswith('image/') and kind != 'image/gif':
    return False
  if not os.path.isfile(path):
    return False
  try:
    with open_video(path) as container, reading(path):
      if container.format.name.endswith('_pipe'):  # FFmpeg's demuxers of images
        return False
      packets = container.demux(_video_stream(container, path))
      return sum(packet.size > 0 for packet in itertools.islice(packets, 2)) == 2
  except UserError:
    return False


class VideoReader:
  """Video stream of a file, with facts that decoding reveals.

  Attributes:
    path: the file's path.
    container: the open file.
    stream: the video stream.
    time_base: time base of the stream, in seconds.
    rate: average frames per second.
    count: number of frames decoded so far.
    first: time stamp of the first frame, in the stream's time base.
    look: colour properties and pixel aspect ratio of the first frame, as encoder options.
    end: end time of the last decoded frame, in the stream's time base.
    keep_damaged: True to skip what cannot be read; otherwise damage raises `UserError`.
    damage: description of the first damage, or ''.
  """

  def __init__(self, path: str | os.PathLike, container: Any, keep_damaged: bool = False):
    self.path = path
    self.keep_damaged = keep_damaged
    self.container = container
    self.stream = _video_stream(container, path)
    # By default PyAV lets FFmpeg generate missing time stamps, which ignores the frame order.
    container.flags &= ~pyav().container.core.Flags.gen_pts.value
    self.time_base = self.stream.time_base
    self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
    self.count = 0
    self.first = self.end = 0
    self.look: dict[str, Any] = {}
    self.damage = ''

  def estimated_count(self) -> int | None:
    """Return the number of frames according to the header, or None."""
    if self.stream.frames or not self.container.duration:
      return self.stream.frames or None
    return round(self.container.duration * self.rate / 10**6)

  def check_end(self) -> None:
    """Compare the file with its header, without decoding.

    Raises:
      UserError: if the file was cut off, unless `keep_damaged`.
    """
    with reading(self.path):
      size, declared = os.path.getsize(self.path), declared_size(self.path)
      position = damaged_at(self.path)
    if declared is not None and size < declared:
      self._note_damage(f'truncated file (expected {declared:,} bytes, found {size:,})')
      return
    if position is not None:
      self._note_damage(f'invalid data at byte {position:,}')
    if declared is not None and self.container.format.name in _COMMON_DURATION:
      return
    end, promised = self._ends()
    if promised - end > 1:
      self._note_damage(f'truncated file (expected {promised:.1f} s, ends after {end:.1f} s)')

  def _ends(self) -> tuple[float, float]:
    """Return the end of the packets, and the end according to the header, in seconds."""
    shown: list[float] = []  # times of the video's frames
    end = 0.0
    with open_video(self.path) as container:
      stream = _video_stream(container, self.path)
      common = container.format.name in _COMMON_DURATION
      with contextlib.suppress(pyav().FFmpegError):  # decoding reports it
        for packet in container.demux(*([] if common else [stream])):
          time = packet.dts if packet.pts is None else packet.pts
          if time is None:
            continue
          end = max(end, float((time + (packet.duration or 0)) * packet.time_base))
          if packet.stream_index == stream.index:
            shown.append(float(time * packet.time_base))
      if common:
        promised = (container.duration or 0) / 10**6
      else:
        promised = float(((stream.start_time or 0) + (stream.duration or 0)) * stream.time_base)
      if container.format.name == 'avi':  # FFmpeg shortens the duration of truncated files
        promised = max(promised, float(stream.frames / self.rate))
    shown.sort()
    # Few containers store how long the last frame lasts: perhaps as long as any other.
    longest = max((b - a for a, b in itertools.pairwise(shown)), default=0.0)
    return max(end, shown[-1] + longest if shown else 0.0), promised

  def frames(self) -> Iterator[Any]:
    """Decode the frames once, in order, with strictly increasing `pts`.

    Interlaced frames are deinterlaced, which a message says. Frames that cannot be decoded are
    skipped and reported in `damage`, with `keep_damaged`.

    Raises:
      UserError: if the file cannot be read, is damaged, the frame size changes, or time runs
        backward.
    """
    with reading(self.path):
      yield from _deinterlaced(self._timed_frames(), self._report_interlaced)

  def _report_interlaced(self) -> None:
    print_message(f'{printable(self.path)} is interlaced: its frames are deinterlaced (bwdif)')

  def _timed_frames(self) -> Iterator[Any]:
    second = 1 / self.time_base
    step = max(1, round(second / self.rate))
    delay = 0
    last = None
    size = (0, 0)
    for frame in self._decode():
      pts = frame.dts if frame.pts is None else frame.pts
      if pts is None:
        frame.pts = 0 if last is None else last + step
      else:
        if last is None and frame.pts is None:  # AVI stores decoding times, which are earlier
          delay = pts - (self.stream.start_time or 0)
        frame.pts = pts - delay
      if last is None:
        self.first = frame.pts
        self.look = self._look(frame)
        size = _upright_size(frame)
      elif _upright_size(frame) != size:
        old, new = (f'{width}x{height}' for width, height in (size, _upright_size(frame)))
        raise UserError(
          f'{printable(self.path)}: the frame size changes from {old} to {new} {self._where()}; '
          'split the video there'
        )
      elif frame.pts < last - second:
        raise UserError(
          f'{printable(self.path)}: time stamps decrease {self._where()}; rewrite them first '
          '(ffmpeg -i IN -c copy OUT.mkv)'
        )
      else:
        frame.pts = max(frame.pts, last + 1)
      last = frame.pts
      self.end = last + (frame.duration or step)
      if frame.is_corrupt:
        self._note_damage('damaged frame', self._where())
      self.count += 1
      yield frame

  def _decode(self) -> Iterator[Any]:
    with reading(self.path):
      for packet in self.container.demux(self.stream):
        try:
          yield from packet.decode()
        except pyav().FFmpegError as error:
          self._note_damage(error.strerror, self._where())

  def _look(self, frame: Any) -> dict[str, Any]:
    look = {'colorspace': _matrix(frame), 'color_range': _LIMITED}
    look |= {'color_primaries': frame.color_primaries, 'color_trc': frame.color_trc}
    if aspect := self.stream.sample_aspect_ratio:
      look['sample_aspect_ratio'] = 1 / aspect if _is_transposed(frame) else aspect
    return look

  def _note_damage(self, what: str, where: str = '') -> None:
    """Record the first damage, or raise an error."""
    self.damage = self.damage or f'{what} {where}'.rstrip()
    if not self.keep_damaged:
      raise UserError(
        f'{printable(self.path)} is damaged: {self.damage}; pass --keep_damaged to restore what '
        'can be read'
      )

  def _where(self) -> str:
    seconds = float((self.end - self.first) * self.time_base)
    return f'after frame {self.count} ({seconds:.1f} s)'


def _deinterlaced(frames: Iterable[Any], on_first: Callable[[], None]) -> Iterator[Any]:
  """Replace interlaced frames, which may stand between progressive ones, as in telecine.

  Every frame becomes one frame, with the same time stamp and colour properties. The order of the
  fields is that of each frame's flags.

  Args:
    frames: decoded frames, with increasing `pts`.
    on_first: called once, before the first interlaced frame is replaced.
  """
  graph: Any = None
  waiting: collections.deque[Any] = collections.deque()  # the filter looks one frame ahead
  layout = None
  found = False
  for frame in frames:
    if graph and layout != (frame.width, frame.height, frame.format.name):
      yield from _filtered(graph, None, waiting)
      graph = None
    if graph is None:
      if not frame.interlaced_frame or min(frame.width, frame.height) < 4:  # bwdif's least size
        yield frame
        continue
      if not found:
        on_first()
        found = True
      graph = _deinterlacer(frame)
      layout = frame.width, frame.height, frame.format.name
    yield from _filtered(graph, frame, waiting)
  if graph:
    yield from _filtered(graph, None, waiting)


def _deinterlacer(frame: Any) -> Any:
  """Return a graph of FFmpeg's `bwdif` for frames like this one."""
  graph = pyav().filter.Graph()
  # With the colours, a conversion of packed formats, which bwdif does not take, keeps them.
  options = {'video_size': f'{frame.width}x{frame.height}', 'pix_fmt': frame.format.name}
  options |= {'time_base': str(frame.time_base), 'range': str(int(frame.color_range))}
  options['colorspace'] = str(int(frame.colorspace))
  source = graph.add('buffer', ':'.join(f'{key}={value}' for key, value in options.items()))
  bwdif = graph.add('bwdif', 'mode=send_frame:parity=auto:deint=interlaced')
  graph.link_nodes(source, bwdif, graph.add('buffersink')).configure()
  return graph


def _filtered(graph: Any, frame: Any, waiting: collections.deque[Any]) -> Iterator[Any]:
  """Send a frame, or None at the end, and yield those that are complete."""
  if frame is not None:
    waiting.append(frame)
  graph.vpush(frame)
  while waiting:
    try:
      image = graph.vpull()
    except (BlockingIOError, EOFError):
      return
    original = waiting.popleft()
    if not original.interlaced_frame:
      yield original
      continue
    image.pts, image.time_base = original.pts, original.time_base
    yield image


def _video_stream(container: Any, path: str | os.PathLike) -> Any:
  stream = container.streams.best('video')
  picture = stream and stream.disposition & stream.disposition.attached_pic  # cover of a song
  if picture or not (stream and stream.codec_context and stream.width and stream.height):
    raise UserError(f'{printable(path)} has no video stream that can be decoded')
  return stream


@contextlib.contextmanager
def open_video(path: str | os.PathLike) -> Iterator[Any]:
  """Open a video for reading, by its content only.

  FFmpeg receives a file descriptor: with a name it would read `.txt` as text video, and with other
  protocols a playlist could make it read other files or the network.
  """
  av = pyav()
  with contextlib.ExitStack() as stack:
    with reading(path):
      file = stack.enter_context(open(path, 'rb'))
      options = {'fd': str(file.fileno()), 'protocol_whitelist': 'fd'}
      container = av.open('fd:', container_options=options, metadata_errors='replace')
    yield stack.enter_context(container)


def add_stream(output: Any, video: VideoReader, size: tuple[int, int], crf: int) -> Any:
  """Add an H.264 stream to an open file, with the frame rate of a video.

  Args:
    output: the open file.
    video: the source video.
    size: width and height in pixels.
    crf: constant rate factor of x264.
  """
  # Without B frames, packets are in presentation order, so segments can be joined in any container.
  # Files grow by about 15 %. A short lookahead saves memory.
  width, height = size
  return output.add_stream(
    'libx264',
    rate=video.rate,
    time_base=video.time_base,
    width=width,
    height=height,
    pix_fmt='yuv444p' if width % 2 or height % 2 else 'yuv420p',
    options={'crf': str(crf), 'bf': '0', 'rc-lookahead': '8'},
  )


def _matrix(frame: Any) -> int:
  """Return the YUV matrix of a frame; if unspecified, the one that players assume for its size."""
  if frame.colorspace in _MATRICES:
    return frame.colorspace
  return _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601


def to_rgb(frame: Any) -> np.ndarray:
  """Convert a frame to `[h, w, 3]` uint8 RGB, with its rotation applied."""
  matrix = _MATRICES[_matrix(frame)]
  image = _convert(frame, 'rgb24', src_colorspace=matrix).to_ndarray()
  a, b, c, d = _display_matrix(frame)
  if _is_transposed(frame):
    image = image.swapaxes(0, 1)
    a, d = c, b
  return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def from_rgb(image: np.ndarray, pix_fmt: str, matrix: int) -> Any:
  """Convert `[h, w, 3]` uint8 RGB to a frame of limited range."""
  frame = pyav().VideoFrame.from_ndarray(image)
  return _convert(frame, pix_fmt, dst_colorspace=_MATRICES[matrix])


def _convert(frame: Any, pix_fmt: str, **colours: int) -> Any:
  """Convert a frame to another pixel format, with accurate rounding and chroma interpolation."""
  flags = pyav().video.reformatter.Interpolation
  exact = flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP
  return frame.reformat(format=pix_fmt, interpolation=exact, **colours)


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
  """Return `(a, b, c, d)`: a step right is displayed as `(a, b)`, and a step down as `(c, d)`."""
  try:
    data = frame.side_data.get('DISPLAYMATRIX')
  except ValueError:  # PyAV does not support all side data; mirroring is then not detected
    angle = math.radians(frame.rotation)
    cos, sin = round(math.cos(angle)), round(math.sin(angle))
    return cos, -sin, sin, cos
  if data is None:
    return 1, 0, 0, 1
  a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
  return a, b, c, d


def _is_transposed(frame: Any) -> bool:
  a, b, _, _ = _display_matrix(frame)
  return abs(b) > abs(a)


def _upright_size(frame: Any) -> tuple[int, int]:
  size = frame.width, frame.height
  return size[::-1] if _is_transposed(frame) else size


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
  """Turn read errors into a `UserError` that names the file."""
  try:
    yield
  except (OSError, pyav().FFmpegError) as error:
    reason = error.strerror or error
    raise UserError(f'cannot read {printable(path)} as a video: {reason}') from error


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
  """Turn write errors into a `UserError` that names the file."""
  try:
    yield
  except (OSError, pyav().FFmpegError) as error:
    raise UserError(f'cannot write {printable(path)}: {error.strerror or error}') from error


def pyav() -> Any:
  """Import and return the module `av`, on first use.

  Raises:
    UserError: if PyAV is not installed.
  """
  try:
    import av
  except ImportError as error:
    raise UserError(f'videos require PyAV: {install_extra("video")}') from error
  return av
