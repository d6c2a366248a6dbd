"""Videos, restored frame by frame; time stamps, sound, rotation and colours are kept."""

import collections
import contextlib
import heapq
import io
import itertools
import json
import math
import mimetypes
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.files import file_sha256, printable, write_aside, write_json
from gfn_jax.restore import Restorer

# FFmpeg's names. AVI has no time stamps, and WebM cannot hold H.264.
_FORMATS = {'.mp4': 'mp4', '.m4v': 'mp4', '.mov': 'mov', '.mkv': 'matroska'}

VIDEO_EXTENSIONS = tuple(_FORMATS)
"""Extensions of the videos that can be written."""

# Numbers of FFmpeg and of ITU-T H.273.
_LIMITED = 1
_BT709, _BT601 = 1, 5
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}  # those that FFmpeg converts, and its names there
_HDR = {16: 'PQ', 18: 'HLG'}

_CONVERT_AUDIO = 'ffmpeg -i IN -c:v copy -c:a aac OUT.mkv'

# What a file or a stream says about itself and is still true of the result.
_METADATA = ('title', 'artist', 'album', 'comment', 'copyright', 'creation_time', 'date')
_METADATA += ('description', 'genre', 'handler_name', 'language', 'location', 'make', 'model')


def is_video(path: str | os.PathLike) -> bool:
  """Whether a file is to be taken as a video: by its extension if that tells, or by its content.

  A damaged `.mp4` is one, so that its error can name the damage. Content decides for an extension
  that says neither, and for `.gif`: an animation is a video, a still image or a song's cover is
  not. Without PyAV, content does not count.
  """
  kind = mimetypes.guess_type(os.fspath(path))[0] or ''
  if kind.startswith('video/') or _extension(path) in _FORMATS:
    return True
  if kind.startswith('image/') and kind != 'image/gif':
    return False
  if not os.path.isfile(path):
    return False
  try:
    with _open(path) as container, _reading(path):
      if container.format.name.endswith('_pipe'):  # FFmpeg's demuxers of images
        return False
      packets = container.demux(_video_stream(container, path))
      return sum(packet.size > 0 for packet in itertools.islice(packets, 2)) == 2
  except UserError:
    return False


def restore_video(
  restorer: Restorer,
  source: str | os.PathLike,
  target: str | os.PathLike,
  *,
  settings: Mapping[str, Any],
  overwrite: bool = False,
  segment_frames: int = 24,
  crf: int = 18,
) -> None:
  """Restores a video frame by frame, as H.264, in memory that does not grow with its length.

  Every frame keeps its time stamp (Matroska rounds to milliseconds; what starts late, as broadcasts
  do, starts at 0) and all audio streams are copied as they are. Frames are turned upright. Colours
  keep their matrix, primaries and transfer function, in 8 bits of limited range; chroma has half
  the resolution, unless a side is odd. Subtitles, chapters and alpha are left out.

  The restored frames are kept in the folder `TARGET.segments` until the video is whole. After an
  interruption, the same call goes on behind the last segment that was finished, if the source,
  `settings`, `segment_frames` and `crf` are the same.

  Args:
    restorer: turns a frame `[h, w, 3]` uint8 into `[s * h, s * w, 3]` uint8, as a `Restorer`; `s`
      is its attribute `scale`.
    source: any video that FFmpeg reads.
    target: its extension is one of `VIDEO_EXTENSIONS`.
    settings: what the restored frames depend on, in types of JSON: the weights' SHA-256, options of
      the restorer. They guard against frames of two networks in one video.
    overwrite: whether `target` may exist.
    segment_frames: frames in a segment: what an interruption costs at most, and the distance of key
      frames, to which players jump.
    crf: of x264, from 0 (lossless) to 51; at 18 the loss is hard to see.

  Raises:
    UserError: if PyAV is missing, the source cannot be read, or the target cannot be written or
      cannot hold the source's audio. Also if the source is damaged; `target` then has the frames
      that can be read.
    ValueError: if `segment_frames` or `crf` is out of range.
  """
  if segment_frames < 1:
    raise ValueError(f'segment_frames is at least 1, not {segment_frames}')
  if not 0 <= crf <= 51:
    raise ValueError(f'crf is from 0 to 51, not {crf}')
  _check_paths(source, target, overwrite)
  with _open(source) as container:
    video = _Source(source, container)
    _check_target(video, target, restorer.scale)
    if transfer := _HDR.get(video.stream.color_trc):
      _say(f'{printable(source)} is HDR ({transfer}), which is reduced to 8 bits')
    manifest = {'source': file_sha256(source), 'settings': dict(settings), 'crf': crf}
    manifest |= {'segment_frames': segment_frames, 'scale': restorer.scale}
    manifest['pyav'] = _av().__version__  # segments of two x264 may not fit together
    segments = _Segments(f'{os.fspath(target)}.segments', manifest)
    try:
      _restore_frames(restorer, video, segments, segment_frames, crf)
    except BaseException as error:
      if not segments.paths:
        segments.remove()
      elif isinstance(error, KeyboardInterrupt):
        _say(f'what is finished is in {printable(segments.folder)}; the same command goes on')
      raise
    with _writing(target), write_aside(target) as temporary:
      _join(video, segments, temporary)
  segments.remove()
  if video.damage:
    raise UserError(
      f'{printable(source)} is damaged: {video.damage}; {printable(target)} has the frames that '
      'can be read'
    )


def _restore_frames(
  restorer: Restorer, video: '_Source', segments: '_Segments', segment_frames: int, crf: int
) -> None:
  """Decodes all frames, and restores those of the segments that are not there yet."""
  kept = len(segments.paths)
  done = kept * segment_frames
  if kept:
    _say(f'going on from frame {done + 1}; those before are in {printable(segments.folder)}')
  total = video.estimated_count()
  with tqdm(desc='restoring', total=total, initial=done, unit='frame', leave=False) as bar:

    def restored(group: Iterable[Any]) -> Iterator[tuple[int, np.ndarray]]:
      for frame in group:
        with _reading(video.path):
          image = _to_rgb(frame)
        yield frame.pts, restorer(image)
        bar.update()

    frames = video.frames()
    for index, frame in enumerate(frames):
      group = itertools.chain([frame], itertools.islice(frames, segment_frames - 1))
      if index < kept:
        collections.deque(group, maxlen=0)  # decoded only
        continue
      with segments.writing() as path:
        _write_segment(path, video, restored(group), crf)
  if not video.count:
    raise UserError(f'{printable(video.path)}: no frame of it can be decoded')


class _Source:
  """The video stream of a file, and what is known after its frames were decoded.

  Attributes:
    path: of the file.
    container: the open file.
    stream: the video stream.
    time_base: of the stream, in seconds.
    rate: frames per second, on average.
    count: frames so far.
    first: time stamp of the first frame, in the stream's time base.
    look: the first frame's colours and shape of pixels, as options of an encoder.
    end: when the last frame so far ends.
    damage: what is wrong, or ''.
  """

  def __init__(self, path: str | os.PathLike, container: Any):
    self.path = path
    self.container = container
    self.stream = _video_stream(container, path)
    # PyAV asks FFmpeg to make up what is missing, which takes no account of the frames' order.
    container.flags &= ~_av().container.core.Flags.gen_pts.value
    self.time_base = self.stream.time_base
    self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
    self.count = 0
    self.first = self.end = 0
    self.look = {}
    self.damage = ''

  def estimated_count(self) -> int | None:
    """How many frames the header promises, or None."""
    if self.stream.frames or not self.container.duration:
      return self.stream.frames or None
    return round(self.container.duration * self.rate / 10**6)

  def frames(self) -> Iterator[Any]:
    """Decodes the frames once, in order; their `pts` rise strictly.

    What cannot be decoded is passed over, and noted in `damage`.

    Raises:
      UserError: if the file cannot be read, or the frames change their size.
    """
    second = 1 / self.time_base
    step = max(1, round(second / self.rate))
    delay = 0
    last = size = None
    for frame in self._decode():
      pts = frame.dts if frame.pts is None else frame.pts
      if pts is None:
        frame.pts = 0 if last is None else last + step
      else:
        if last is None and frame.pts is None:  # AVI has times of decoding, which is earlier
          delay = pts - (self.stream.start_time or 0)
        frame.pts = pts - delay
      if last is None:
        self.first = frame.pts
        self.look = self._look(frame)
        size = _upright_size(frame)
      elif _upright_size(frame) != size:
        old, new = (f'{width}x{height}' for width, height in (size, _upright_size(frame)))
        raise UserError(
          f'{printable(self.path)}: the size changes from {old} to {new} {self._where()}; '
          'cut the video there'
        )
      elif frame.pts < last - second:
        raise UserError(
          f'{printable(self.path)}: time goes back {self._where()}; renew its time stamps first '
          '(ffmpeg -i IN -c copy OUT.mkv)'
        )
      else:
        frame.pts = max(frame.pts, last + 1)
      last = frame.pts
      self.end = last + (frame.duration or step)
      self.count += 1
      yield frame
    self._check_end()

  def _decode(self) -> Iterator[Any]:
    with _reading(self.path):
      for packet in self.container.demux(self.stream):
        try:
          yield from packet.decode()
        except _av().FFmpegError as error:
          self._note_damage(error.strerror)

  def _look(self, frame: Any) -> dict[str, Any]:
    look = {'colorspace': _matrix(frame), 'color_range': _LIMITED}
    look |= {'color_primaries': frame.color_primaries, 'color_trc': frame.color_trc}
    if aspect := self.stream.sample_aspect_ratio:
      look['sample_aspect_ratio'] = 1 / aspect if _is_transposed(frame) else aspect
    return look

  def _check_end(self) -> None:
    """Notes a file that was cut off, if its header says so."""
    promised = (self.stream.start_time or 0) + (self.stream.duration or 0)
    if (promised - self.end) * self.time_base > 1:
      seconds = float((promised - self.first) * self.time_base)
      self._note_damage(f'it should last {seconds:.1f} s, but ends')

  def _note_damage(self, what: str) -> None:
    """Keeps the first."""
    self.damage = self.damage or f'{what} {self._where()}'

  def _where(self) -> str:
    seconds = float((self.end - self.first) * self.time_base)
    return f'after frame {self.count} ({seconds:.1f} s)'


class _Segments:
  """The folder of finished segments: NUT files, which keep any time base, and a manifest.

  Attributes:
    folder: its path.
    paths: the finished segments, in order.
  """

  def __init__(self, folder: str, manifest: dict[str, Any]):
    """Takes over the segments that an interrupted call left, if the manifest is the same."""
    self.folder = folder
    self.paths = []
    manifest_path = os.path.join(folder, 'manifest.json')
    with _writing(folder):
      os.makedirs(folder, exist_ok=True)
      if _read_json(manifest_path) != json.loads(json.dumps(manifest)):
        if self._clear():
          _say(f'{printable(folder)} is of another source or other settings, and made anew')
        write_json(manifest_path, manifest)
    while os.path.exists(self._next()):
      self.paths.append(self._next())

  def _next(self) -> str:
    return os.path.join(self.folder, f'{len(self.paths):06d}.nut')

  @contextlib.contextmanager
  def writing(self) -> Iterator[str]:
    """Gives a path for the next segment, which counts if all went well."""
    path = self._next()
    with _writing(path), write_aside(path) as temporary:
      yield temporary
      with open(temporary, 'r+b') as file:
        os.fsync(file.fileno())  # a crash of the machine must not leave it empty
    self.paths.append(path)

  def _clear(self) -> bool:
    """Removes the files that are ours; whether there were any."""
    ours = re.compile(r'manifest\.json|\.manifest\.tmp\.json|\d{6}\.nut|\.\d{6}\.tmp\.nut')
    names = [name for name in os.listdir(self.folder) if ours.fullmatch(name)]
    for name in names:
      os.remove(os.path.join(self.folder, name))
    return bool(names)

  def remove(self) -> None:
    """Removes the folder, unless it holds files of others."""
    self._clear()
    with contextlib.suppress(OSError):
      os.rmdir(self.folder)


def _write_segment(
  path: str, video: _Source, frames: Iterable[tuple[int, np.ndarray]], crf: int
) -> None:
  """Encodes time stamps and restored frames; times count from the video's first frame."""
  stream = None
  with _av().open(f'file:{path}', 'w', format='nut') as output:
    for pts, image in frames:
      if stream is None:
        height, width, _ = image.shape
        stream = _add_stream(output, video, (width, height), crf)
        for name, value in video.look.items():
          setattr(stream, name, value)
      frame = _from_rgb(image, stream.pix_fmt, video.look['colorspace'])
      frame.pts, frame.time_base = pts - video.first, video.time_base
      output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def _add_stream(output: Any, video: _Source, size: tuple[int, int], crf: int) -> Any:
  # Without B frames, packets follow each other as their time stamps do, so segments can be joined
  # in any container; files get about 15 % larger. The lookahead's frames are in memory.
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
  """The matrix between RGB and YUV: if it is not said, by size, as players take it."""
  if frame.colorspace in _MATRICES:
    return frame.colorspace
  return _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601


def _to_rgb(frame: Any) -> np.ndarray:
  """A frame as `[h, w, 3]` uint8, upright."""
  matrix = _MATRICES[_matrix(frame)]
  image = _convert(frame, 'rgb24', src_colorspace=matrix).to_ndarray()
  a, b, c, d = _display_matrix(frame)
  if _is_transposed(frame):
    image = image.swapaxes(0, 1)
    a, d = c, b
  return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _from_rgb(image: np.ndarray, pix_fmt: str, matrix: int) -> Any:
  """`[h, w, 3]` uint8 as a frame of limited range."""
  frame = _av().VideoFrame.from_ndarray(image)
  return _convert(frame, pix_fmt, dst_colorspace=_MATRICES[matrix])


def _convert(frame: Any, pix_fmt: str, **colours: int) -> Any:
  """A frame in another format: rounded well, and with chroma interpolated."""
  flags = _av().video.reformatter.Interpolation
  exact = flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP
  return frame.reformat(format=pix_fmt, interpolation=exact, **colours)


def _display_matrix(frame: Any) -> tuple[int, int, int, int]:
  """`(a, b, c, d)`: a step to the right is shown as `(a, b)`, and a step down as `(c, d)`."""
  try:
    data = frame.side_data.get('DISPLAYMATRIX')
  except ValueError:  # PyAV does not know all of FFmpeg's data; so mirrored frames are not seen
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


def _join(video: _Source, segments: _Segments, path: str) -> None:
  """Writes the segments' video and the source's audio, both copied, into one file."""
  form = _FORMATS[_extension(path)]
  options = {}
  if form != 'matroska':  # a late start would be rounded to milliseconds
    unit = video.time_base.denominator
    options['movie_timescale'] = str(unit * math.ceil(1000 / unit))
  with (
    _open(video.path) as source,
    _open(segments.paths[0]) as first,
    _av().open(f'file:{path}', 'w', format=form, container_options=options) as output,
  ):
    output.metadata.update(_metadata(source))
    stream = output.add_stream_from_template(first.streams.video[0])
    stream.time_base = video.time_base
    stream.framerate = video.rate
    stream.metadata.update(_metadata(video.stream))
    copies = _copy_audio(source, output)
    start = Fraction(max(0, source.start_time or 0), 10**6)  # in seconds, of all streams
    packets = heapq.merge(
      _video_packets(video, segments, stream, start),
      _audio_packets(video.path, source, copies, start, trim=form == 'matroska'),
      key=lambda packet: packet.dts * packet.time_base,
    )
    for packet in packets:
      output.mux(packet)


def _copy_audio(source: Any, output: Any) -> dict[int, Any]:
  """Adds a stream for each audio stream of the source, whose index is its key."""
  copies = {}
  for audio in source.streams.audio:
    copies[audio.index] = output.add_stream_from_template(audio)
    copies[audio.index].metadata.update(_metadata(audio))
    copies[audio.index].disposition = audio.disposition
  return copies


def _metadata(source: Any) -> dict[str, str]:
  return {key: value for key, value in source.metadata.items() if key.lower() in _METADATA}


def _video_packets(
  video: _Source, segments: _Segments, stream: Any, start: Fraction
) -> Iterator[Any]:
  """The packets of all segments, with the source's time stamps less `start`."""
  shift = video.first - round(start / video.time_base)
  end = shift + video.end - video.first
  packets = _segment_packets(segments.paths, video.time_base, shift)
  count = 0
  for packet, following in itertools.pairwise(itertools.chain(packets, [None])):
    packet.duration = (end if following is None else following.pts) - packet.pts
    packet.stream = stream
    count += 1
    yield packet
  if count != video.count:
    raise UserError(f'{printable(segments.folder)} is damaged; remove it and start again')


def _segment_packets(paths: list[str], time_base: Fraction, shift: int) -> Iterator[Any]:
  for path in paths:
    with _open(path) as container, _reading(path):
      for packet in container.demux(video=0):
        if packet.size:
          # NUT has a multiple of the time base.
          packet.pts = packet.dts = round(packet.pts * packet.time_base / time_base) + shift
          packet.time_base = time_base
          yield packet


def _audio_packets(
  path: str | os.PathLike, source: Any, copies: Mapping[int, Any], start: Fraction, trim: bool
) -> Iterator[Any]:
  """The packets of the audio streams, with their time stamps less `start`.

  `trim` leaves out what was cut off at the beginning, for containers that cannot say that it is not
  to be heard, but for one packet, which decoders need.
  """
  if not copies:
    return
  least = {}  # the time stamp that a container takes next, of each stream
  with _reading(path):
    for packet in source.demux(audio=tuple(range(len(copies)))):
      if not packet.size:
        continue
      if trim and packet.is_discard and (packet.pts or 0) + 2 * (packet.duration or 0) <= 0:
        continue
      index = packet.stream_index
      shift = round(start / packet.time_base)
      dts = least.get(index, 0) if packet.dts is None else packet.dts - shift
      packet.dts = max(dts, least.get(index, dts))
      packet.pts = packet.dts if packet.pts is None else max(packet.pts - shift, packet.dts)
      packet.stream = copies[index]
      least[index] = packet.dts + 1
      yield packet


def _check_paths(source: str | os.PathLike, target: str | os.PathLike, overwrite: bool) -> None:
  if not os.path.isfile(source):
    raise UserError(f'no such file: {printable(source)}')
  if _extension(target) not in _FORMATS:
    raise UserError(f'{printable(target)}: videos are written as {", ".join(_FORMATS)}')
  if not os.path.exists(target):
    return
  if os.path.samefile(source, target):
    raise UserError(f'{printable(source)} would be overwritten; choose another output')
  if os.path.isdir(target):
    raise UserError(f'{printable(target)} is a folder; choose another output')
  if not overwrite:
    raise UserError(f'{printable(target)} exists already; choose another output, or overwrite it')


def _check_target(video: _Source, target: str | os.PathLike, scale: int) -> None:
  """Tries to encode and to copy, before hours of work.

  Raises:
    UserError: if frames of this size cannot be encoded, or the target cannot hold the audio.
  """
  size = scale * video.stream.width, scale * video.stream.height
  if not _can_encode(video, size):
    raise UserError(f'{printable(video.path)}: H.264 cannot hold frames of {size[0]}x{size[1]}')
  if _can_hold_audio(_extension(target), video):
    return
  contexts = [stream.codec_context for stream in video.container.streams.audio]
  codecs = ', '.join(context.name if context else 'unknown' for context in contexts)
  others = [extension for extension in _FORMATS if _can_hold_audio(extension, video)]
  advice = f'choose {" or ".join(others)}' if others else f'convert it first ({_CONVERT_AUDIO})'
  raise UserError(
    f'{printable(target)}: {_extension(target)} cannot hold the audio of {printable(video.path)} '
    f'({codecs}); {advice}'
  )


def _can_encode(video: _Source, size: tuple[int, int]) -> bool:
  av = _av()
  try:
    with av.open(io.BytesIO(), 'w', format='nut') as output:
      _add_stream(output, video, size, crf=18)
      output.start_encoding()
  except (ValueError, av.FFmpegError):
    return False
  return True


def _can_hold_audio(extension: str, video: _Source) -> bool:
  """Whether a container takes the first packets of the audio; some refuse at the very end."""
  av = _av()
  try:
    with (
      _open(video.path) as source,
      av.open(io.BytesIO(), 'w', format=_FORMATS[extension]) as output,
    ):
      copies = _copy_audio(source, output)
      packets = _audio_packets(video.path, source, copies, Fraction(0), trim=False)
      for packet in itertools.islice(packets, 100):
        output.mux(packet)
  except UserError:  # of the source
    raise
  except (ValueError, av.FFmpegError):
    return False
  return True


@contextlib.contextmanager
def _open(path: str | os.PathLike) -> Iterator[Any]:
  """Opens a file to read, by its content only.

  FFmpeg gets no name, because it would take a `.txt` for a video of text, and no protocol, because
  a playlist could make it read other files, or from the network.
  """
  av = _av()
  with contextlib.ExitStack() as stack:
    with _reading(path):
      file = stack.enter_context(open(path, 'rb'))
      options = {'fd': str(file.fileno()), 'protocol_whitelist': 'fd'}
      container = av.open('fd:', container_options=options, metadata_errors='replace')
    yield stack.enter_context(container)


def _video_stream(container: Any, path: str | os.PathLike) -> Any:
  stream = container.streams.best('video')
  picture = stream and stream.disposition & stream.disposition.attached_pic  # a song's cover
  if picture or not (stream and stream.codec_context and stream.width and stream.height):
    raise UserError(f'{printable(path)} has no video that can be decoded')
  return stream


@contextlib.contextmanager
def _reading(path: str | os.PathLike) -> Iterator[None]:
  try:
    yield
  except (OSError, _av().FFmpegError) as error:
    reason = error.strerror or error
    raise UserError(f'{printable(path)} cannot be read as a video: {reason}') from error


@contextlib.contextmanager
def _writing(path: str | os.PathLike) -> Iterator[None]:
  try:
    yield
  except (OSError, _av().FFmpegError) as error:
    raise UserError(f'{printable(path)} cannot be written: {error.strerror or error}') from error


def _av() -> Any:
  try:
    import av
  except ImportError as error:
    raise UserError("videos need PyAV: pip install 'gfn_jax[video]'") from error
  return av


def _extension(path: str | os.PathLike) -> str:
  return os.path.splitext(path)[1].lower()


def _read_json(path: str) -> Any:
  try:
    with open(path) as file:
      return json.load(file)
  except (OSError, ValueError):
    return None


def _say(line: str) -> None:
  tqdm.write(line, file=sys.stderr)
