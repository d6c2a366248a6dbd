"""DVD100, a test set of CNLRN: a hundred frames of the DVD data set (Su et al., CVPR 2017)."""

from etils import epath

from data_prep import degradation, frame_files
from data_prep.gopro_tree import FramePair
from gfn_jax.errors import UserError
from gfn_jax.ops.imresize import imresize

# The test clips of DVD. The other clips of `quantitative_datasets` are for training.
CLIPS = (
  '720p_240fps_2', 'IMG_0003', 'IMG_0021', 'IMG_0030', 'IMG_0031',
  'IMG_0032', 'IMG_0033', 'IMG_0037', 'IMG_0039', 'IMG_0049',
)  # fmt: skip
FRAMES = range(9, 100, 10)

_ARCHIVE = 'DeepVideoDeblurring_Dataset'
_ENDINGS = ('.jpg', '.png')


def find_frames(root: epath.Path) -> list[FramePair]:
  """Lists the frames of DVD100.

  Args:
    root: the folder `quantitative_datasets`, or the one above; it holds `<clip>/input/00009.jpg`,
      `<clip>/GT/00009.jpg` and so on, JPEG or PNG.

  Returns:
    The hundred pairs, named `<clip>_<frame>`, by clip and number.

  Raises:
    UserError: naming the first file that is missing.
  """
  inner = root / 'quantitative_datasets'
  folder = inner if inner.is_dir() else root
  if not any((folder / clip).is_dir() for clip in CLIPS):
    raise UserError(
      f'{folder} has none of the test clips of DVD, such as {CLIPS[0]}; give the folder '
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
  raise UserError(f'{paths[0]} does not exist, nor does a .png; unpack {_ARCHIVE} again')


def degrade_pair(pair: FramePair) -> degradation.Degraded:
  """Shrinks a pair of frames to a quarter, as MATLAB does 8-bit images.

  Returns:
    One example: `hr` is the sharp frame, cropped at the bottom and the right so that its sides
    divide by 4; `lr_blur` and `lr` are a quarter of its size. All are uint8 `[H, W, 3]`.

  Raises:
    UserError: if a frame cannot be decoded, or they do not have one size, of 4x4 at least.
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
  if path.suffix == '.png':
    frame_files.png_size(path, _ARCHIVE)  # Pillow would make 8 bits of 16
  return frame_files.read_rgb(path, _ARCHIVE)
