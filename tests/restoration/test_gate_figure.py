import flax.linen as nn
import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.cli.visualize import main
from gfn_jax.images.reading import Photo
from gfn_jax.images.writing import write_photo
from gfn_jax.models import variable_shapes
from gfn_jax.restoration.gate_figure import (
  Panel,
  colour_range,
  draw,
  draw_panels,
  make_panels,
  read_image,
)
from gfn_jax.weights.pretrained import save_weights
from tests import small

IMAGE = skimage.data.astronaut()[100:133, 200:246]  # cut to 32x44


def random_params(model):
  rng = np.random.default_rng(0)

  def fill(leaf):
    deviation = 0.7 / np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) == 4 else 0.1
    return (deviation * rng.standard_normal(leaf.shape)).astype(np.float32)

  return jax.tree.map(fill, variable_shapes(model)['params'])


def make_restorer(**options):
  model = create_model(**(small.MODEL | options))
  return Restorer(model, {'params': random_params(model)}, tile=None)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  path = tmp_path_factory.mktemp('weights') / 'weights.safetensors'
  save_weights(path, {'params': random_params(create_model(**small.MODEL))}, small.MODEL, {})
  return path


def features(restorer):
  """What the modules give and get as the network runs, `[h, w, F]`, and its `lr`."""

  @jax.jit
  def run(params, x):
    calls = {}

    def record(next_call, args, kwargs, context):
      result = next_call(*args, **kwargs)
      if context.method_name == '__call__':
        calls.setdefault(context.module.name, []).append((args, result))
      return result

    with nn.intercept_methods(record):
      output = restorer.model.apply({'params': params}, x)
    [(_, (f_deblur, _))], [(_, f_sr)] = calls['deblur'], calls['sr_feature']
    [((f_fusion,), _)] = calls['reconstruction']
    found = {'f_deblur': f_deblur, 'f_sr': f_sr, 'f_fusion': f_fusion, 'lr': output.lr}
    if 'gate' in calls:
      found['g'] = sum(result for _, result in calls['gate'])
    return {key: value[0] for key, value in found.items()}

  return jax.device_get(run(restorer.variables['params'], IMAGE[None, :32, :44] / np.float32(255)))


def assert_values(panels, expected):
  assert len(panels) == len(expected)
  for panel, values in zip(panels, expected, strict=True):
    if values.ndim == 3:
      np.testing.assert_array_equal(panel.values, values)
    else:
      assert panel.values.dtype == np.float32
      np.testing.assert_allclose(panel.values, values, atol=1e-5)


@pytest.mark.parametrize('recursions', [1, 3])
def test_the_panels_are_what_the_network_computes(recursions):
  restorer = make_restorer(gate_recursions=recursions)
  f = features(restorer)
  lr = np.floor(np.clip(f['lr'], 0, 1) * 255 + 0.5).astype(np.uint8)
  image, gated = IMAGE[:32, :44], f['g'] * f['f_deblur']
  mean = lambda x: np.abs(x).mean(axis=-1)
  panels = make_panels(restorer, IMAGE)
  assert_values(
    panels,
    [image, lr, mean(f['f_deblur']), mean(f['f_sr']), f['g'].mean(axis=-1), mean(gated)]
    + [mean(f['f_fusion']), restorer(image)],
  )
  assert [panel.centre for panel in panels] == [None, None, None, None, 1.0, None, None, None]
  assert panels[4].values.min() < 0  # signed
  panels = make_panels(restorer, IMAGE, channel=5)
  maps = (f['f_deblur'], f['f_sr'], f['g'], gated, f['f_fusion'])
  assert_values(panels[2:-1], [values[..., 5] for values in maps])
  assert [panel.centre for panel in panels[2:-1]] == [0.0, 0.0, 1.0, 0.0, 0.0]
  assert panels[4].title == 'gate  $g$  [5]'


def test_without_a_gate_its_panels_are_left_out():
  restorer = make_restorer(gated=False)
  f = features(restorer)
  panels = make_panels(restorer, IMAGE)
  maps = (f['f_deblur'], f['f_sr'], f['f_fusion'])
  assert_values(panels[2:-1], [np.abs(values).mean(axis=-1) for values in maps])
  assert len(panels) == 6
  assert not any('gate' in panel.title for panel in panels)
  assert panels[4].title == 'fused  $f_{deblur} + f_{sr}$'


def test_networks_and_channels_that_cannot_be_drawn():
  restorer = make_restorer()
  for channel in (-1, 8):
    with pytest.raises(UserError, match=f'channel {channel}: pass a number from 0 to 7'):
      make_panels(restorer, IMAGE, channel)
  model = create_model('sr_branch', features=8, sr_blocks=1, reconstruction_blocks=1)
  with pytest.raises(UserError, match='SRBranch has no gate to draw; pass weights of a GFN'):
    make_panels(Restorer(model, {'params': random_params(model)}), IMAGE)


def test_the_figure_shows_the_panels_in_one_size_over_their_colour_bars():
  rng = np.random.default_rng(0)
  small_map, gate = rng.random((12, 36), np.float32), rng.random((12, 36), np.float32)
  panels = [
    Panel('input', IMAGE[:12, :36]),
    Panel('features', small_map),
    Panel('gate', gate, centre=1.0),
    Panel('restored', np.repeat(np.repeat(IMAGE[:12, :36], 4, axis=0), 4, axis=1)),
  ]
  figure = draw_panels(panels)
  figure.canvas.draw()
  pictures = [axes for axes in figure.axes if axes.get_title()]
  assert [axes.get_title() for axes in pictures] == ['input', 'features', 'gate', 'restored']
  boxes = [axes.get_window_extent() for axes in pictures]
  assert {(round(box.width), round(box.height)) for box in boxes} == {(1035, 345)}
  for axes, panel in zip(pictures, panels, strict=True):
    [shown] = axes.get_images()
    np.testing.assert_array_equal(shown.get_array(), panel.values)
    if panel.values.ndim == 2:
      assert shown.get_clim() == colour_range(panel)
  assert [pictures[i].get_images()[0].get_cmap().name for i in (1, 2)] == ['viridis', 'RdBu_r']
  corners = [(round(box.x0), round(box.y0 - boxes[1].y0)) for box in boxes]
  row = 345 + round(0.48 * 300)
  assert corners == [(0, row), (0, 0), (1065, row), (1065, 0)]
  texts = [text.get_text() for axes in figure.axes for text in axes.texts]
  assert texts == ['36 × 12 pixels', '144 × 48 pixels']
  everything = [axes.get_tightbbox() for axes in figure.axes]
  assert min(box.x0 for box in everything) > -1
  assert min(box.y0 for box in everything) >= 0  # the numbers of the lower bars are on the figure
  assert max(box.y1 for box in everything) < figure.bbox.height


def test_a_tall_photo_does_not_make_an_endless_figure():
  tall = Panel('input', np.zeros((400, 4, 3), np.uint8))
  width, height = draw_panels([tall] * 8).get_size_inches()
  panel = (7 - 3 * 0.1) / 4
  assert width == 7
  assert height == pytest.approx(2 * (1.5 * panel + 0.48))


def test_colours_leave_the_uppermost_hundredth_out():
  values = np.arange(101, dtype=np.float32).reshape(1, 101)
  assert colour_range(Panel('', values)) == (0.0, 99.0)
  assert colour_range(Panel('', values, centre=0.0)) == (-99.0, 99.0)
  assert colour_range(Panel('', values, centre=100.0)) == (1.0, 199.0)
  ones = np.ones((2, 2), np.float32)
  assert colour_range(Panel('', 0 * ones)) == (0.0, 1.0)
  assert colour_range(Panel('', ones, centre=1.0)) == (0.0, 2.0)


def test_a_photo_becomes_a_png(weights, tmp_path, capsys):
  photo, path = tmp_path / 'photo.png', tmp_path / 'figures' / 'gate.png'
  Image.fromarray(IMAGE).save(photo)
  main([str(photo), str(path), '--weights', str(weights), '--crop', '6,5,40,20', '--channel', '3'])
  panel = (7 - 3 * 0.1) / 4
  with Image.open(path) as figure:
    assert figure.format == 'PNG'
    assert figure.size == (2100, int(300 * 2 * (panel / 2 + 0.48)))
    pixels = np.asarray(figure.convert('RGB')).astype(int)
  assert [file.name for file in path.parent.iterdir()] == ['gate.png']
  # The first panel is the part of the photo, 12.6 times as large.
  top, side = round(0.2 * 300), round(panel * 300)
  shown = Image.fromarray(pixels[top : top + side // 2, :side].astype(np.uint8)).resize((40, 20))
  difference = np.abs(np.asarray(shown).astype(int) - IMAGE[5:25, 6:46])
  assert difference.mean() < 3
  assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
  ('name', 'pixels', 'expected'),
  [
    ('grey.png', IMAGE[..., :1], np.repeat(IMAGE[..., :1], 3, axis=-1)),
    ('deep.png', IMAGE.astype(np.uint16) * 257, IMAGE),
    (
      'alpha.png',
      np.concatenate([IMAGE, np.zeros_like(IMAGE[..., :1])], axis=-1),
      np.full_like(IMAGE, 255),
    ),
  ],
)
def test_every_kind_of_photo_becomes_rgb(tmp_path, name, pixels, expected):
  write_photo(tmp_path / name, Photo(pixels))
  np.testing.assert_array_equal(read_image(tmp_path / name), expected)


def test_a_part_is_of_the_photo_as_it_is_seen(tmp_path):
  path = tmp_path / 'photo.png'
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(np.ascontiguousarray(np.rot90(IMAGE))).save(path, exif=exif)
  np.testing.assert_array_equal(read_image(path, (40, 3, 6, 30)), IMAGE[3:33, 40:46])


@pytest.mark.parametrize(
  ('crop', 'message'),
  [
    ((0, 0, 47, 33), 'photo.png is 46x33: the part 47x33 at 0,0 is not within it; --crop is X,Y'),
    ((-1, 0, 10, 10), 'the part 10x10 at -1,0 is not within it'),
    ((3, 30, 10, 4), 'the part 10x4 at 3,30 is not within it'),
    ((3, 3, 0, 4), 'the part 0x4 at 3,3 is not within it'),
    ((3, 3, 10, 3), 'photo.png: 10x3 is too small; a side needs at least 4 pixels'),
  ],
)
def test_parts_that_cannot_be(tmp_path, crop, message):
  Image.fromarray(IMAGE).save(tmp_path / 'photo.png')
  with pytest.raises(UserError, match=message):
    read_image(tmp_path / 'photo.png', crop)


def test_a_large_photo_is_refused_and_a_part_of_it_is_not(tmp_path):
  path = tmp_path / 'large.png'
  Image.new('RGB', (1001, 1000)).save(path)
  with pytest.raises(UserError, match='1001x1000 exceeds 1,000,000 pixels; choose a smaller part'):
    read_image(path)
  assert read_image(path, (1, 0, 1000, 1000)).shape == (1000, 1000, 3)


def test_what_ends_in_an_error_writes_nothing(weights, tmp_path):
  photo = tmp_path / 'photo.png'
  Image.fromarray(IMAGE).save(photo)
  before = photo.read_bytes()
  output = tmp_path / 'gate.png'
  with pytest.raises(UserError, match='gate.jpg: the figure is a PNG; choose a name that ends in'):
    draw(photo, tmp_path / 'gate.jpg', weights=weights)
  with pytest.raises(UserError, match='photo.png would be overwritten; choose another output'):
    draw(photo, photo, weights=weights)
  with pytest.raises(UserError, match='cannot read .*missing.png: No such file'):
    draw(tmp_path / 'missing.png', output, weights=weights)
  with pytest.raises(UserError, match="no released weights are named 'none'"):
    draw(photo, output, weights='none')
  with pytest.raises(UserError, match="argument --crop: invalid crop value: '1,2,3'"):
    main([str(photo), str(output), '--crop', '1,2,3'])
  assert [path.name for path in tmp_path.iterdir()] == ['photo.png']
  assert photo.read_bytes() == before
