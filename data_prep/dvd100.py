"""DVD100, a test set of CNLRN: 100 frames of the DVD data set (Su et al., CVPR 2017)."""

from etils import epath

from gfn_jax.data_prep import degradation, frame_files
from gfn_jax.data_prep.gopro_tree import FramePair
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize

# Test clips of DVD. The other clips of `quantitative_datasets` are training clips.
CLIPS = (
  '720p_240fps_2', 'IMG_0003', 'IMG_0021', 'IMG_0030', 'IMG_0031',
  'IMG_0032', 'IMG_0033', 'IMG_0037', 'IMG_0039', 'IMG_0049',
)  # fmt: skip
FRAMES = range(9, 100, 10)

_ARCHIVE = 'DeepVideoDeblurring_Dataset'
_ENDINGS = ('.jpg', '.png', '.jpeg', '.JPG', '.PNG', '.JPEG')


def find_frames(root: epath.Path) -> list[FramePair]:
  """List the frames of DVD100.

  Args:
    root: the folder `quantitative_datasets` or its parent. It holds `<clip>/input/00009.jpg`,
      `<clip>/GT/00009.jpg` and so on, as JPEG or PNG files.

  Returns:
    The 100 pairs, named `<clip>_<frame>`, in the order of clips and frames.

  Raises:
    UserError: if a file is missing. The message names the first.
  """
  inner = root / 'quantitative_datasets'
  folder = inner if inner.is_dir() else root
  if not any((folder / clip).is_dir() for clip in CLIPS):
    raise UserError(
      f'{folder} has none of the test clips of DVD, such as {CLIPS[0]}; pass the folder '
      f'quantitative_datasets of {_ARCHIVE}'
    )
  return [
    FramePair(
      f'{clip}_{number:05d}',
      sharp=_find(folder / clip / 'GT', number),
      blur=_find(folder / clip / 'input', number),
    )
    for clip in CLIPS
    for number in FRAMES
  ]


def _find(folder: epath.Path, number: int) -> epath.Path:
  paths = [folder / f'{number:05d}{ending}' for ending in _ENDINGS]
  for path in paths:
    if path.exists():
      return path
  raise UserError(f'neither {paths[0]} nor {paths[1].name} exists; unpack {_ARCHIVE} again')


def degrade_pair(pair: FramePair) -> degradation.Degraded:
  """Reduce a pair of frames to a quarter, as MATLAB reduces 8-bit images.

  Returns:
    One example of uint8 `[H, W, 3]` images. `hr` is the sharp frame, cropped at the bottom and
    right to multiples of 4. `lr_blur` and `lr` are a quarter of its size.

  Raises:
    UserError: if a frame cannot be decoded, the sizes differ, or they are below 4x4.
  """
  sharp, blur = (_read(path) for path in (pair.sharp, pair.blur))
  if sharp.shape != blur.shape:
    sizes = [f'{path} is {x.shape[0]}x{x.shape[1]}' for path, x in
             ((pair.blur, blur), (pair.sharp, sharp))]  # fmt: skip
    raise UserError(f'{" but ".join(sizes)} (height x width); unpack {_ARCHIVE} again')
  sharp, blur = (degradation.crop_to_multiple(x, degradation.SCALE) for x in (sharp, blur))
  if 0 in sharp.shape:
    raise UserError(f'{pair.sharp} is smaller than 4x4; unpack {_ARCHIVE} again')
  lr_blur, lr = (imresize(x, 1 / degradation.SCALE, degradation.BORDER) for x in (blur, sharp))
  example = {'name': pair.name, 'lr_blur': lr_blur, 'lr': lr, 'hr': sharp}
  return degradation.Degraded([example], windows_seen=0)


def _read(path: epath.Path):
  if path.suffix.lower() == '.png':
    frame_files.png_size(path, _ARCHIVE)  # Pillow would reduce 16 bits to 8
  return frame_files.read_rgb(path, _ARCHIVE)
