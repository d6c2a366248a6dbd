import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.cli.figure import main
from gfn_jax.images.preview import resize
from gfn_jax.models import init_variables
from gfn_jax.ops import metrics
from gfn_jax.ops.imresize import imresize
from gfn_jax.ops.scores import bicubic
from gfn_jax.restoration.crop_figure import Panel, draw, draw_panels, make_panels
from gfn_jax.weights.pretrained import save_weights

MODEL = {'name': 'sr_branch', 'features': 4, 'sr_blocks': 1, 'reconstruction_blocks': 1}
HR = skimage.data.astronaut()[:96, 160:320]
LR = imresize(HR, 0.25)  # [24, 40, 3]


def make_restorer(seed=0, **options):
  model = create_model(**MODEL | options)
  return Restorer(model, init_variables(model, seed))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """A pair of images and two files of weights."""
  root = tmp_path_factory.mktemp('files')
  Image.fromarray(LR).save(root / 'lr.png')
  Image.fromarray(HR).save(root / 'hr.png')
  for seed, name in enumerate(('mine.safetensors', 'run/weights.safetensors')):
    (root / name).parent.mkdir(exist_ok=True)
    variables = jax.device_get(init_variables(create_model(**MODEL), seed))
    save_weights(root / name, variables, MODEL, {})
  return root


def colours(figure):
  """Return the pixels of a figure."""
  figure.canvas.draw()
  return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def texts(figure):
  return [text.get_text() for text in figure.texts if text.get_text()]


def test_the_panels_are_whole_images_with_their_scores():
  restorers = [('one', make_restorer(0)), ('two', make_restorer(1))]
  panels = make_panels('photo', LR, restorers, HR, 'cnlrn')
  assert [panel.title for panel in panels] == ['bicubic', 'one', 'two', 'target']
  images = [bicubic(LR), *(restorer(LR) for _, restorer in restorers), HR]
  for panel, image in zip(panels, images, strict=True):
    np.testing.assert_array_equal(panel.image, image)
    if panel.title == 'target':
      assert panel.scores is None
    else:
      scores = metrics.evaluate_pair(image, HR, 'cnlrn')
      assert {key: panel.scores[key] for key in scores} == scores


def test_without_a_target_there_are_no_scores():
  panels = make_panels('photo', LR, [('one', make_restorer())], None, 'gfn')
  assert [(panel.title, panel.scores) for panel in panels] == [('bicubic', None), ('one', None)]


def test_a_network_that_only_deblurs_is_compared_with_its_input():
  model = create_model('cnlrn_deblur', features=4, blocks=1, stage_blocks=1)
  restorer = Restorer(model, init_variables(model, 0))
  panels = make_panels('photo', LR, [('deblurred', restorer)], LR, 'mprnet')
  assert [panel.title for panel in panels] == ['input', 'deblurred', 'target']
  np.testing.assert_array_equal(panels[0].image, LR)
  with pytest.raises(UserError, match='the networks enlarge by 1 and 4; choose equal ones'):
    make_panels('photo', LR, [('a', restorer), ('b', make_restorer())], None, 'gfn')


def test_a_target_of_another_size_is_refused():
  with pytest.raises(UserError, match='photo: expected a target of 160x96 for the input of 40x24'):
    make_panels('photo', LR, [('one', make_restorer())], HR[:-4], 'gfn')


@pytest.mark.parametrize(('count', 'rows', 'zoom'), [(2, 1, 13), (3, 1, 10), (4, 2, 10), (5, 2, 8)])
def test_the_parts_are_enlarged_by_a_whole_factor(count, rows, zoom):
  x, y, w, h = box = (5, 3, 12, 9)
  scores = {'psnr': 24.106, 'ssim': 0.79474}
  methods = [Panel(f'method {n}', np.roll(HR, n, axis=0), scores) for n in range(count)]
  figure = draw_panels(LR, methods, box, 'the note')
  pixels = colours(figure)
  columns = -(-count // rows)
  width, height = zoom * 4 * w, zoom * 4 * h
  dpi = round(zoom * 4 * (rows * h * 40 / 24 + columns * w) / 7)
  assert figure.dpi == dpi
  caption, gap, note = round(0.27 * dpi), round(0.05 * dpi), round(0.15 * dpi)
  input_height = rows * height + (rows - 1) * (caption + gap)
  input_width = round(input_height * 40 / 24)
  assert pixels.shape == (
    input_height + caption + note,
    input_width + columns * (gap + width),
    3,
  )
  assert 1500 < pixels.shape[1] < 2900
  for number, panel in enumerate(methods):
    row, column = divmod(number, columns)
    left, top = input_width + gap + column * (width + gap), row * (height + caption + gap)
    part = panel.image[4 * y : 4 * (y + h), 4 * x : 4 * (x + w)]
    shown = pixels[top : top + height, left : left + width]
    np.testing.assert_array_equal(shown[zoom // 2 :: zoom, zoom // 2 :: zoom], part)
    np.testing.assert_array_equal(shown[::zoom, ::zoom], part)
    assert (pixels[top + height : top + height + caption, left : left + width] < 100).any()
  shown = pixels[:input_height, :input_width].astype(int)
  expected = np.asarray(resize(Image.fromarray(LR), (input_width, input_height))).astype(int)
  factor = input_height / 24
  edge = round(dpi / 72) + 2  # of the mark, which is one point wide
  differs = np.argwhere((shown != expected).any(axis=-1))
  (top, left), (bottom, right) = differs.min(axis=0), differs.max(axis=0)
  corners = np.array([top, left, bottom, right])
  assert np.abs(corners - factor * np.array([y, x, y + h, x + w])).max() <= edge
  inside = slice(top + 2 * edge, bottom - 2 * edge), slice(left + 2 * edge, right - 2 * edge)
  np.testing.assert_array_equal(shown[inside], expected[inside])
  assert (shown[top + edge // 2, (left + right) // 2] == (255, 0, 0)).all()
  assert texts(figure)[:4] == ['input', '40 × 24 pixels', 'method 0', '24.11 / 0.7947']
  assert texts(figure)[-1] == 'the note'


def test_the_command_writes_the_figure(files, tmp_path):
  path = tmp_path / 'figures' / 'figure.png'
  command = [f'--input={files}/lr.png', f'--target={files}/hr.png', f'--output={path}']
  command += [
    f'--weights={files}/mine.safetensors',
    f'--weights=A run={files}/run/weights.safetensors',
  ]
  main([*command, '--crop=4,2,16,8', '--protocol=cnlrn'])
  with Image.open(path) as figure:
    assert figure.format == 'PNG'
    pixels = np.asarray(figure.convert('RGB'))
  zoom = 9  # of 4 parts in two rows
  target = HR[8:40, 16:80].repeat(zoom, axis=0).repeat(zoom, axis=1)
  height, width, _ = target.shape
  dpi = round(zoom * 4 * (2 * 8 * 40 / 24 + 2 * 16) / 7)
  top = height + round(0.27 * dpi) + round(0.05 * dpi)
  np.testing.assert_array_equal(pixels[top : top + height, -width:], target)
  assert [file.name for file in path.parent.iterdir()] == ['figure.png']


def test_titles_and_the_centre_are_defaults(files, tmp_path, monkeypatch):
  shown = []

  def record(lr_blur, panels, box, note):
    shown.append(([panel.title for panel in panels], box, note))
    return draw_panels(lr_blur, panels, box, note)

  monkeypatch.setattr('gfn_jax.restoration.crop_figure.draw_panels', record)
  weights = [('', files / 'mine.safetensors'), ('', files / 'run' / 'weights.safetensors')]
  draw(files / 'lr.png', tmp_path / 'a.png', weights)
  draw(
    files / 'lr.png', tmp_path / 'a.png', weights[:1], target=files / 'hr.png', protocol='mprnet'
  )
  assert shown == [
    (['bicubic', 'mine', 'run'], (15, 9, 10, 6), ''),
    (
      ['bicubic', 'mine', 'target'],
      (15, 9, 10, 6),
      'PSNR (dB) / SSIM of the whole image, protocol mprnet',
    ),
  ]


def test_an_equals_sign_may_be_part_of_a_name(files, tmp_path):
  path = tmp_path / 'features=4.safetensors'
  for suffix in ('.safetensors', '.json'):
    path.with_suffix(suffix).write_bytes((files / f'mine{suffix}').read_bytes())
  main([f'--input={files}/lr.png', f'--output={tmp_path}/a.png', f'--weights={path}'])
  assert (tmp_path / 'a.png').exists()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'--output': '{files}/a.jpg'}, 'a.jpg: the figure is a PNG; choose a name that ends in .png'),
    ({'--output': '{files}/lr.png'}, 'lr.png would be overwritten; choose another output'),
    ({'--output': '{files}/hr.png'}, 'hr.png would be overwritten; choose another output'),
    ({'--input': '{files}/none.png'}, 'cannot read .*none.png: No such file'),
    ({'--target': '{files}/none.png'}, 'cannot read .*none.png: No such file'),
    ({'--target': '{files}/lr.png'}, 'lr: expected a target of 160x96 for the input of 40x24, fou'),
    ({'--crop': '30,2,11,4'}, 'lr.png is 40x24: the part 11x4 at 30,2 is not within it; --crop is'),
    ({'--crop': '1,2,3'}, "argument --crop: invalid crop value: '1,2,3'"),
    ({'--weights': 'none'}, "no released weights are named 'none'"),
    ({'--weights': None}, 'the following arguments are required: --weights'),
    ({'--protocol': 'matlab'}, "argument --protocol: invalid choice: 'matlab'"),
  ],
)
def test_a_mistake_is_one_line_and_writes_nothing(files, changes, message):
  options = {'--input': '{files}/lr.png', '--target': '{files}/hr.png'}
  options |= {'--output': '{files}/figure.png', '--weights': '{files}/mine.safetensors'}
  before = {path: path.read_bytes() for path in files.rglob('*.*')}
  command = [f'{key}={value}' for key, value in (options | changes).items() if value]
  with pytest.raises(UserError, match=message):
    main([option.replace('{files}', str(files)) for option in command])
  assert {path: path.read_bytes() for path in files.rglob('*.*')} == before
