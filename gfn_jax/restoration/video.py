"""Restoration of videos, frame by frame; time stamps, sound, rotation and colours are kept."""

import contextlib
import hashlib
import heapq
import io
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from tqdm import tqdm

from gfn_jax.errors import UserError
from gfn_jax.images.videos import (
  FORMATS,
  HDR,
  VideoReader,
  add_stream,
  from_rgb,
  open_video,
  pyav,
  reading,
  to_rgb,
  writing,
)
from gfn_jax.restoration.restorer import Restorer
from gfn_jax.system.console import print_message
from gfn_jax.system.files import extension_of, file_sha256, printable, write_aside, write_json
from gfn_jax.system.overlap import Behind, one_ahead

_CONVERT_AUDIO = 'ffmpeg -i IN -c:v copy -c:a aac OUT.mkv'

# Metadata of a file or a stream that also hold for the result.
_METADATA = (
  'title',
  'artist',
  'album',
  'comment',
  'copyright',
  'creation_time',
  'date',
  'description',
  'genre',
  'handler_name',
  'language',
  'location',
  'make',
  'model',
)


def restore_video(
  restorer: Restorer,
  source: str | os.PathLike,
  target: str | os.PathLike,
  *,
  settings: Mapping[str, Any],
  overwrite: bool = False,
  keep_damaged: bool = False,
  segment_frames: int = 24,
  crf: int = 18,
) -> None:
  """Restore a video frame by frame, as H.264, in memory that does not grow with its length.

  Every frame keeps its time stamp, except that Matroska rounds to milliseconds, and that videos
  which start late, as broadcasts do, start at 0. All audio streams are copied unchanged. Frames are
  turned upright. Colours keep their matrix, primaries and transfer function, in 8 bits of limited
  range. Chroma has half the resolution, unless a side is odd. Interlaced frames are deinterlaced.
  Subtitles, chapters and alpha are left out. Messages on stderr say what is lost or changed.

  Restored frames are kept in the folder `TARGET.segments` until the video is complete. After an
  interruption, the same call continues after the last finished segment, if the source, `settings`,
  `segment_frames` and `crf` are the same.

  Args:
    restorer: maps a frame `[h, w, 3]` uint8 to `[s * h, s * w, 3]` uint8, like a `Restorer`; `s`
      is its attribute `scale`.
    source: a video that FFmpeg reads.
    target: the video to write; its extension is one of `videos.FORMATS`.
    settings: settings that the restored frames depend on, in types of JSON: the weights' SHA-256,
      options of the restorer. They prevent frames of two networks in one video.
    overwrite: True if `target` may exist.
    keep_damaged: True to restore what can be read of a damaged source, and to report the damage in
      a message.
    segment_frames: frames in a segment: the most that an interruption loses, and the distance
      between key frames, to which players jump.
    crf: quality of x264, from 0 (lossless) to 51; at 18 the loss is hard to see.

  Raises:
    UserError: if PyAV is missing, the source cannot be read, or the target cannot be written or
      cannot contain the source's audio. Also if the source is damaged, unless `keep_damaged`.
    ValueError: if `segment_frames` or `crf` is out of range.
  """
  if segment_frames < 1:
    raise ValueError(f'segment_frames is at least 1, not {segment_frames}')
  if not 0 <= crf <= 51:
    raise ValueError(f'crf is from 0 to 51, not {crf}')
  _check_paths(source, target, overwrite)
  with open_video(source) as container:
    video = VideoReader(source, container, keep_damaged)
    _check_target(video, target, restorer.scale)
    video.check_end()
    for line in _losses(video):
      print_message(f'{printable(source)}{line}')
    manifest = {'source': file_sha256(source), 'settings': dict(settings), 'crf': crf}
    manifest |= {'segment_frames': segment_frames, 'scale': restorer.scale}
    manifest['pyav'] = pyav().__version__  # segments of two x264 may not fit together
    segments = _Segments(_segments_folder(target), manifest)
    try:
      _restore_frames(restorer, video, segments, segment_frames, crf)
    except BaseException as error:
      if not segments.paths:
        segments.remove()
      elif video.damage or isinstance(error, KeyboardInterrupt):
        command = 'the same command' if isinstance(error, KeyboardInterrupt) else '--keep_damaged'
        print_message(f'finished frames are in {printable(segments.folder)}; {command} continues')
      raise
    with writing(target), write_aside(target) as temporary:
      _join(video, segments, temporary)
  segments.remove()
  if video.damage:
    print_message(
      f'{printable(source)} is damaged: {video.damage}; {printable(target)} has the {video.count} '
      'frames that can be read'
    )


def _losses(video: VideoReader) -> Iterator[str]:
  """Yield the ends of lines that name what the result will not have."""
  depth = max((part.bits for part in _components(video)), default=8)
  if transfer := HDR.get(video.stream.color_trc):
    yield f' is HDR ({transfer}), which is reduced to 8 bits'
  elif depth > 8:
    yield f' has {depth} bits, which are reduced to 8 bits'
  streams = video.container.streams
  counts = {
    'other video stream': len(streams.video) - 1,
    'subtitle stream': len(streams.subtitles),
    'chapter': len(video.container.chapters()),
    'attachment': len(streams.attachments),
    'data stream': len(streams.data),
  }
  left_out = [f'{n} {name}{"s" if n > 1 else ""}' for name, n in counts.items() if n > 0]
  # The alpha of WebM is a second picture, which FFmpeg's decoder leaves out.
  in_webm = video.stream.metadata.get('alpha_mode') == '1'
  if in_webm or any(part.is_alpha for part in _components(video)):
    left_out.append('alpha')
  if left_out:
    yield f': left out of the result: {", ".join(left_out)}'


def _components(video: VideoReader) -> Sequence[Any]:
  pixel_format = video.stream.format
  return pixel_format.components if pixel_format else ()


def _segments_folder(target: str | os.PathLike) -> str:
  """Return the folder of segments: `TARGET.segments`, shortened if names may not be so long."""
  folder, name = os.path.split(os.fspath(target))
  encoded = os.fsencode(name)
  if len(encoded) + len('.segments') > 255:
    short = encoded[:200].decode(errors='ignore')
    name = f'{short}.{hashlib.sha256(encoded).hexdigest()[:8]}'
  return os.path.join(folder, f'{name}.segments')


def _restore_frames(
  restorer: Restorer, video: VideoReader, segments: '_Segments', segment_frames: int, crf: int
) -> None:
  """Decode all frames, and restore those of missing segments.

  While the network restores a frame, a thread decodes the next one and another encodes the last.
  """
  done = len(segments.paths) * segment_frames
  if done:
    print_message(
      f'continuing at frame {done + 1}; earlier frames are in {printable(segments.folder)}'
    )
  total = video.estimated_count()
  with (
    tqdm(desc='restoring', total=total, initial=done, unit='frame', leave=False) as bar,
    one_ahead(_decode(video, done)) as frames,
    _Encoder(segments, video, segment_frames, crf) as encoder,
    Behind() as behind,
  ):
    for pts, image in frames:
      behind.call(encoder.add, pts, restorer(image))
      bar.update()
    behind.wait()
  if not video.count:
    raise UserError(f'cannot read {printable(video.path)}: no frame can be decoded')


def _decode(video: VideoReader, start: int) -> Iterator[tuple[int, np.ndarray]]:
  """Yield the time stamps and pixels of the frames from number `start` on."""
  for frame in itertools.islice(video.frames(), start, None):
    with reading(video.path):
      image = to_rgb(frame)
    yield frame.pts, image


class _Segments:
  """Folder of finished segments: NUT files, which keep any time base, and a manifest.

  Attributes:
    folder: path of the folder.
    paths: the finished segments, in order.
  """

  def __init__(self, folder: str, manifest: dict[str, Any]):
    """Open the folder, and keep the segments of an interrupted call with the same manifest."""
    self.folder = folder
    self.paths = []
    manifest_path = os.path.join(folder, 'manifest.json')
    with writing(folder):
      os.makedirs(folder, exist_ok=True)
      if _read_json(manifest_path) != json.loads(json.dumps(manifest)):
        if self._clear():
          print_message(
            f'{printable(folder)} is from another source or other settings: starting again'
          )
        write_json(manifest_path, manifest)
    while os.path.exists(self._next()):
      self.paths.append(self._next())

  def _next(self) -> str:
    return os.path.join(self.folder, f'{len(self.paths):06d}.nut')

  @contextlib.contextmanager
  def writing(self) -> Iterator[str]:
    """Provide a path for the next segment, which is added unless an error is raised."""
    path = self._next()
    with writing(path), write_aside(path) as temporary:
      yield temporary
      with open(temporary, 'r+b') as file:
        os.fsync(file.fileno())  # otherwise a crash of the machine may leave an empty file
    self.paths.append(path)

  def _clear(self) -> bool:
    """Remove the segments and the manifest. Return True if any existed."""
    ours = re.compile(r'manifest\.json|\.manifest\.tmp\.json|\d{6}\.nut|\.\d{6}\.tmp\.nut')
    names = [name for name in os.listdir(self.folder) if ours.fullmatch(name)]
    for name in names:
      os.remove(os.path.join(self.folder, name))
    return bool(names)

  def remove(self) -> None:
    """Remove the folder, unless it contains other files."""
    self._clear()
    with contextlib.suppress(OSError):
      os.rmdir(self.folder)


class _Encoder:
  """Encoder of restored frames into segments. Leaving the context finishes the last segment."""

  def __init__(self, segments: _Segments, video: VideoReader, segment_frames: int, crf: int):
    self._segments = segments
    self._video = video
    self._segment_frames = segment_frames
    self._crf = crf
    self._open = contextlib.ExitStack()  # the segment that is being written
    self._output: Any = None
    self._stream: Any = None
    self._count = 0

  def __enter__(self) -> '_Encoder':
    return self

  def __exit__(self, *error: Any) -> None:
    if error[0] is None and self._count:
      with self._open:
        self._flush()
    else:
      self._open.__exit__(*error)  # removes an unfinished segment

  def add(self, pts: int, image: np.ndarray) -> None:
    """Encode a frame with its time stamp, relative to the video's first frame."""
    with self._open.pop_all() as stack:
      if not self._count:
        self._begin(stack, image)
      video = self._video
      frame = from_rgb(image, self._stream.pix_fmt, video.look['colorspace'])
      frame.pts, frame.time_base = pts - video.first, video.time_base
      self._output.mux(self._stream.encode(frame))
      self._count += 1
      if self._count == self._segment_frames:
        self._flush()
      else:
        self._open = stack.pop_all()

  def _begin(self, stack: contextlib.ExitStack, image: np.ndarray) -> None:
    """Open a segment for frames like this one."""
    path = stack.enter_context(self._segments.writing())
    self._output = stack.enter_context(pyav().open(f'file:{path}', 'w', format='nut'))
    height, width, _ = image.shape
    self._stream = add_stream(self._output, self._video, (width, height), self._crf)
    for name, value in self._video.look.items():
      setattr(self._stream, name, value)

  def _flush(self) -> None:
    self._output.mux(self._stream.encode(None))
    self._count = 0


def _join(video: VideoReader, segments: _Segments, path: str) -> None:
  """Copy the segments' video and the source's audio into one file."""
  form = FORMATS[extension_of(path)]
  options = {}
  if form != 'matroska':  # otherwise a late start is rounded to milliseconds
    unit = video.time_base.denominator
    options['movie_timescale'] = str(unit * math.ceil(1000 / unit))
  with (
    open_video(video.path) as source,
    open_video(segments.paths[0]) as first,
    pyav().open(f'file:{path}', 'w', format=form, container_options=options) as output,
  ):
    output.metadata.update(_metadata(source))
    stream = output.add_stream_from_template(first.streams.video[0])
    stream.time_base = video.time_base
    stream.framerate = video.rate
    stream.metadata.update(_metadata(video.stream))
    copies = _copy_audio(source, output)
    start = Fraction(max(0, source.start_time or 0), 10**6)  # seconds, of all streams
    packets = heapq.merge(
      _video_packets(video, segments, stream, start),
      _audio_packets(video.path, source, copies, start, trim=form == 'matroska'),
      key=lambda packet: packet.dts * packet.time_base,
    )
    for packet in packets:
      output.mux(packet)


def _copy_audio(source: Any, output: Any) -> dict[int, Any]:
  """Add a stream for each audio stream of the source, and return them by the source's index."""
  copies = {}
  for audio in source.streams.audio:
    copies[audio.index] = output.add_stream_from_template(audio)
    copies[audio.index].metadata.update(_metadata(audio))
    copies[audio.index].disposition = audio.disposition
  return copies


def _metadata(source: Any) -> dict[str, str]:
  return {key: value for key, value in source.metadata.items() if key.lower() in _METADATA}


def _video_packets(
  video: VideoReader, segments: _Segments, stream: Any, start: Fraction
) -> Iterator[Any]:
  """Yield the packets of all segments, with the source's time stamps less `start`."""
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
    with open_video(path) as container, reading(path):
      for packet in container.demux(video=0):
        if packet.size:
          # The time base of NUT may be a multiple of the video's.
          packet.pts = packet.dts = round(packet.pts * packet.time_base / time_base) + shift
          packet.time_base = time_base
          yield packet


def _audio_packets(
  path: str | os.PathLike, source: Any, copies: Mapping[int, Any], start: Fraction, trim: bool
) -> Iterator[Any]:
  """Yield the packets of the audio streams, with their time stamps less `start`.

  With `trim`, packets that were cut off at the beginning are left out, for containers that cannot
  mark them as such. One of them is kept, because decoders need it.
  """
  if not copies:
    return
  least: dict[int, int] = {}  # smallest time stamp that the container accepts next, by stream
  with reading(path):
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
  if extension_of(target) not in FORMATS:
    raise UserError(f'{printable(target)}: unknown extension; choose from {", ".join(FORMATS)}')
  if not os.path.exists(target):
    return
  if os.path.samefile(source, target):
    raise UserError(f'{printable(source)} would be overwritten; choose another output')
  if os.path.isdir(target):
    raise UserError(f'{printable(target)} is a folder; choose another output')
  if not overwrite:
    raise UserError(
      f'{printable(target)} exists already; choose another output, or pass --overwrite'
    )


def _check_target(video: VideoReader, target: str | os.PathLike, scale: int) -> None:
  """Try to encode a frame and to copy audio, before hours of work.

  Raises:
    UserError: if frames of this size cannot be encoded, or the target cannot contain the audio.
  """
  size = scale * video.stream.width, scale * video.stream.height
  if not _can_encode(video, size):
    raise UserError(f'{printable(video.path)}: H.264 cannot encode frames of {size[0]}x{size[1]}')
  if _can_hold_audio(extension_of(target), video):
    return
  contexts = [stream.codec_context for stream in video.container.streams.audio]
  codecs = ', '.join(context.name if context else 'unknown' for context in contexts)
  others = [extension for extension in FORMATS if _can_hold_audio(extension, video)]
  advice = f'choose {" or ".join(others)}' if others else f'convert it first ({_CONVERT_AUDIO})'
  raise UserError(
    f'cannot write {printable(target)}: {extension_of(target)} cannot contain the audio of '
    f'{printable(video.path)} ({codecs}); {advice}'
  )


def _can_encode(video: VideoReader, size: tuple[int, int]) -> bool:
  av = pyav()
  try:
    with av.open(io.BytesIO(), 'w', format='nut') as output:
      add_stream(output, video, size, crf=18)
      output.start_encoding()
  except (ValueError, av.FFmpegError):
    return False
  return True


def _can_hold_audio(extension: str, video: VideoReader) -> bool:
  """Return True if a container takes the first packets of the audio; some refuse at the end."""
  av = pyav()
  try:
    with (
      open_video(video.path) as source,
      av.open(io.BytesIO(), 'w', format=FORMATS[extension]) as output,
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


def _read_json(path: str) -> Any:
  try:
    with open(path) as file:
      return json.load(file)
  except (OSError, ValueError):
    return None
