import functools
import itertools
import types

import jax
import numpy as np
import pytest
import skimage.data
from PIL import Image

from gfn_jax import Restorer, UserError, create_model
from gfn_jax.restoration import predictor
from gfn_jax.restoration import restorer as restorer_module
from gfn_jax.restoration.resizing import resize_channel
from gfn_jax.system import cpu_bfloat16, memory
from tests import small
from tests.models.networks import normal_variables


@pytest.fixture(scope='module')
def network():
  model = create_model(**small.MODEL)
  return model, normal_variables(model)


@pytest.fixture(scope='module')
def restorer(network):
  return Restorer(*network)


@pytest.fixture
def photo():
  return skimage.data.astronaut()[40:53, 200:222]  # 13x22: no multiples of 4


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  """Let the tests restore on the first device, as each device compiles programs of its own."""
  devices = jax.local_devices()
  monkeypatch.setattr(jax, 'local_devices', lambda: devices[:1])
  return devices


@pytest.fixture
def devices(one_device, monkeypatch):
  """Return all devices, and let the test restore on them."""
  monkeypatch.setattr(jax, 'local_devices', lambda: one_device)
  return one_device


@functools.partial(jax.jit, static_argnums=0)
def forward(model, variables, x):
  return model.apply(variables, x)


def apply(network, image):
  """float32 `hr` of an image in [0, 1]."""
  return np.asarray(forward(*network, image[None].astype(np.float32)).hr[0])


def quantize(image, dtype):
  return np.floor(np.clip(image, 0, 1) * np.iinfo(dtype).max + 0.5).astype(dtype)


def assert_close(restored, wanted, steps=1):
  """Equal but for the last bit, as jit fuses."""
  assert restored.dtype == wanted.dtype
  assert restored.shape == wanted.shape
  assert np.abs(restored.astype(int) - wanted.astype(int)).max() <= steps


def test_the_kinds_of_8_bit_input_give_the_same(network, restorer, photo, tmp_path):
  path = tmp_path / 'photo.png'
  Image.fromarray(photo).save(path)
  wanted = quantize(apply(network, photo / 255), np.uint8)
  assert wanted.shape == (52, 88, 3)
  assert 0 < wanted.mean() < 255
  for image in [photo, Image.fromarray(photo), path, str(path)]:
    restored = restorer(image)
    assert_close(restored, wanted)
    assert (restored != wanted).mean() < 0.01


def test_an_array_comes_back_as_its_kind(network, restorer, photo):
  wanted = apply(network, photo / 255)
  deep = (photo.astype(np.uint16) * 257) ^ 85
  assert_close(restorer(deep), quantize(apply(network, deep / 65535), np.uint16), 4)
  for dtype in (np.float16, np.float32, np.float64):
    restored = restorer((photo / 255).astype(dtype))
    assert restored.dtype == np.float32
    np.testing.assert_allclose(restored, np.clip(wanted, 0, 1), atol=5e-3)


def test_grey_stays_grey_and_alpha_is_resized(restorer, photo):
  grey, alpha = photo[..., 0], photo[..., 1]
  rgb = restorer(np.stack([grey] * 3, axis=-1)).astype(int)
  restored = restorer(grey)
  assert restored.shape == (52, 88)
  assert np.abs(restored - rgb.mean(axis=-1)).max() <= 0.67
  np.testing.assert_array_equal(restorer(grey[..., None])[..., 0], restored)

  wanted_alpha = np.asarray(Image.fromarray(alpha).resize((88, 52), Image.Resampling.BICUBIC))
  both = restorer(np.stack([grey, alpha], axis=-1))
  np.testing.assert_array_equal(both, np.stack([restored, wanted_alpha], axis=-1))
  with_alpha = restorer(np.concatenate([photo, alpha[..., None]], axis=-1))
  np.testing.assert_array_equal(with_alpha[..., :3], restorer(photo))
  np.testing.assert_array_equal(with_alpha[..., 3], wanted_alpha)


@pytest.mark.parametrize('channels', [2, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_colours_of_transparent_pixels_do_not_bleed_into_visible_ones(restorer, dtype, channels):
  full = 1 if dtype == np.float32 else np.iinfo(dtype).max
  image = np.zeros((24, 24, channels), dtype)
  image[8:16, 8:16] = full  # a white square on transparent black
  restored = restorer(image)
  white = restorer(np.full((24, 24, channels - 1), full, dtype))
  np.testing.assert_array_equal(restored[..., :-1], white)
  assert (restored[..., -1] > 0).sum() >= 32 * 32


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_alpha_keeps_its_extremes(dtype):
  full = 1 if dtype == np.float32 else np.iinfo(dtype).max
  alpha = np.full((6, 8), full, dtype)
  alpha[:, :4] = 0
  resized = resize_channel(alpha, (24, 32))
  assert resized.dtype == dtype
  assert resized.min() == 0
  assert resized.max() == full
  assert abs(resized.mean() / full - 0.5) < 0.01
  np.testing.assert_array_equal(resize_channel(alpha, (6, 8)), alpha)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_long_blur_is_restored_at_a_smaller_size(network, restorer, photo, dtype):
  image = photo if dtype == np.uint8 else (photo / 255).astype(np.float32)
  if dtype == np.uint16:
    image = photo.astype(np.uint16) * 257
  small = np.stack([resize_channel(image[..., c], (5, 9)) for c in range(3)], axis=-1)
  hr = restorer(small)
  assert hr.shape == (20, 36, 3)
  wanted = np.stack([resize_channel(hr[..., c], (13, 22)) for c in range(3)], axis=-1)
  found = Restorer(*network, blur=25)(image)
  assert found.dtype == dtype
  np.testing.assert_array_equal(found, wanted)
  assert Restorer(*network, blur=25)(image[..., :1]).shape == (13, 22, 1)


def test_short_blur_needs_no_smaller_size(network, photo):
  found = Restorer(*network, blur=10)(photo)
  np.testing.assert_array_equal(found, Restorer(*network, output='lr')(photo))


def test_long_blur_of_a_photo_with_alpha(network, photo):
  alpha = np.full((*photo.shape[:2], 1), 77, np.uint8)
  found = Restorer(*network, blur=20)(np.concatenate([photo, alpha], axis=-1))
  np.testing.assert_array_equal(found[..., :3], Restorer(*network, blur=20)(photo))
  np.testing.assert_array_equal(found[..., 3:], alpha)


def test_the_forward_pass_of_a_photo_with_long_blur_is_of_the_smaller_one(network, monkeypatch):
  sizes = []
  restorer = Restorer(*network, blur=40, tile=None)
  monkeypatch.setattr(restorer._predictor, 'predict', lambda x, inside: sizes.append(x.shape) or x)
  restorer.time_forward(skimage.data.astronaut()[:64, :80])
  assert set(sizes) == {(1, 16, 20, 3)}


@pytest.mark.parametrize(
  ('options', 'error'),
  [
    ({'blur': 0}, 'blur 0: pass a length in pixels'),
    ({'blur': float('nan')}, 'blur nan: pass a length in pixels'),
    ({'blur': 20, 'output': 'hr'}, "blur 20: pass a length in pixels, with output 'lr', not 'hr'"),
    ({'blur': 20, 'output': 'frames'}, "with output 'lr', not 'frames'"),
  ],
)
def test_wrong_lengths_of_blur(network, options, error):
  with pytest.raises(UserError, match=error):
    Restorer(*network, **options)


@pytest.mark.parametrize(
  'size',
  [
    (1, 1),
    (131, 97),
    pytest.param((3, 300), marks=pytest.mark.full),
    pytest.param((65, 70), marks=pytest.mark.full),
  ],
)
def test_any_size_is_restored_as_if_whole(network, size):
  """Every border is where the image ends, whatever the tiles are; none is visible."""
  image = skimage.data.coffee()[100 : 100 + size[0], 200 : 200 + size[1]]
  whole = Restorer(*network, tile=None)(image)
  assert_close(whole, quantize(apply(network, image / 255), np.uint8))
  for batch_size in (1, 4):
    tiled = Restorer(*network, tile=64, overlap=32, batch_size=batch_size)(image)
    assert_close(tiled, whole)


def test_a_network_that_resizes_sees_the_whole_image_without_padding(photo):
  model = create_model(**small.MODEL, size_mode='resize')
  variables = normal_variables(model)
  assert not model.local
  wanted = quantize(apply((model, variables), photo / 255), np.uint8)
  assert_close(Restorer(model, variables)(photo), wanted)
  padded = Restorer(model, variables, tile=128)(photo)
  assert np.abs(padded.astype(int) - wanted).max() > 1


def test_the_released_weights_leave_no_seams():
  image = skimage.data.coffee()[100:200, 150:374]  # two tiles, which share just the default
  whole = Restorer.from_pretrained('gfn', tile=None)(image)
  tiled = Restorer.from_pretrained('gfn', tile=160)(image)
  assert_close(tiled, whole)
  narrow = Restorer.from_pretrained('gfn', tile=160, overlap=0)(image)
  assert np.abs(narrow.astype(int) - whole).max() > 5  # seams, where tiles share nothing


def test_sizes_share_programs(network):
  restorer = Restorer(*network, tile=96, overlap=16)
  compiled = predictor._compiled(onednn=False)
  before = compiled._cache_size()
  for size in ((70, 90), (71, 89), (96, 96), (65, 66), (90, 300), (200, 91)):
    assert restorer(np.zeros((*size, 3), np.uint8)).shape == (4 * size[0], 4 * size[1], 3)
  assert 1 <= compiled._cache_size() - before <= 3


def test_progress_counts_tiles(network):
  calls = []
  restorer = Restorer(*network, tile=32, overlap=0, batch_size=4)
  restorer(np.zeros((64, 96, 3), np.uint8), progress=lambda *call: calls.append(call))
  assert calls == [(4, 6), (6, 6)]


def test_only_the_forward_pass_is_timed(network, photo, monkeypatch):
  """Transfers take 100 seconds here, compilation 10 and a forward pass 1."""
  seconds = [0.0]
  monkeypatch.setattr(
    restorer_module, 'time', types.SimpleNamespace(perf_counter=lambda: seconds[0])
  )
  device_put = jax.device_put

  def put_slowly(*args):
    seconds[0] += 100
    return device_put(*args)

  def restorer(**options):
    restorer, batches = Restorer(*network, **options), []
    predict = restorer._predictor.predict

    def predict_slowly(x, inside):
      assert inside is None
      seconds[0] += 1 if x.shape in batches else 10
      batches.append(x.shape)
      return predict(x, inside)

    restorer._predictor.predict = predict_slowly
    return restorer, batches

  monkeypatch.setattr(jax, 'device_put', put_slowly)
  whole, batches = restorer()
  assert [whole.time_forward(photo), whole.time_forward(photo)] == [1, 1]
  assert batches == [(1, 13, 22, 3)] * 3
  tiled, batches = restorer(tile=32, overlap=0, batch_size=4)
  assert tiled.time_forward(np.zeros((64, 96, 3), np.uint8)) == 2
  assert batches == [(4, 32, 32, 3)] * 2 + [(2, 32, 32, 3)] * 2


def test_the_ensemble_is_the_mean_over_the_symmetries(network, photo):
  square = photo[:12, :16] / 255
  total = 0
  for turns, flip in itertools.product(range(4), (False, True)):
    image = np.rot90(square, turns)
    restored = apply(network, np.flip(image, axis=1) if flip else image)
    total += np.rot90(np.flip(restored, axis=1) if flip else restored, -turns)
  for tile in (None, 'auto'):
    restored = Restorer(*network, ensemble=True, tile=tile)(square)
    np.testing.assert_allclose(restored, np.clip(total / 8, 0, 1), atol=1e-5)


def test_the_deblurred_image_at_its_own_size(network, photo):
  lr = np.asarray(forward(*network, photo[None].astype(np.float32) / 255).lr[0])
  restorer = Restorer(*network, output='lr')
  assert restorer.scale == 1
  assert_close(restorer(photo), quantize(lr, np.uint8))
  rgba = np.concatenate([photo, photo[..., :1]], axis=-1)
  np.testing.assert_array_equal(restorer(rgba)[..., 3], photo[..., 0])


@functools.cache
def film_network(variant):
  """A BMDSRNet, its parameters, and what its frames of an image in [0, 1] are."""
  model = create_model('bmdsrnet', **small.BMDSRNET, variant=variant, global_skip='input')
  variables = normal_variables(model)
  frames_of = jax.jit(lambda image: model.apply(variables, image[None]).frames[0])
  return model, variables, lambda image: np.asarray(frames_of(image.astype(np.float32)))


def test_frames(photo):
  *network, frames_of = film_network('c')
  wanted = frames_of(photo / 255)
  assert wanted.shape == (7, 13, 22, 3)
  assert np.abs(np.diff(np.clip(wanted, 0, 1), axis=0)).mean(axis=(1, 2, 3)).min() > 0.02
  restorer = Restorer(*network, output='frames')
  assert restorer.scale == 1
  assert_close(restorer(photo), quantize(wanted, np.uint8))
  np.testing.assert_allclose(restorer(photo / 255), np.clip(wanted, 0, 1), atol=1e-5)
  assert_close(restorer(photo.astype(np.uint16) * 257), quantize(wanted, np.uint16), 4)


@pytest.mark.parametrize('variant', ['c', 'f+c+b'])
def test_frames_come_in_tiles_as_of_the_whole_image(variant, capsys):
  """ForNet, which sees the whole image, has no part in them."""
  *network, frames_of = film_network(variant)
  image = skimage.data.coffee()[100:165, 200:340]  # 65x140
  tiled = Restorer(*network, output='frames', tile=64, overlap=32, batch_size=2)(image)
  wanted = quantize(frames_of(image / 255), np.uint8)
  assert_close(tiled, wanted)
  center = Restorer(*network, output='lr', tile=64, overlap=32)(image)
  assert_close(center, wanted[3])
  assert 'uses the whole image' not in capsys.readouterr().err


def test_frames_of_grey_and_with_alpha(photo):
  *network, _ = film_network('c')
  restorer = Restorer(*network, output='frames')
  grey = photo[..., 0]
  colours = restorer(np.stack([grey] * 3, axis=-1)).astype(int)
  frames = restorer(grey)
  assert frames.shape == (7, 13, 22)
  assert np.abs(frames - colours.mean(axis=-1)).max() <= 0.67
  np.testing.assert_array_equal(restorer(grey[..., None])[..., 0], frames)
  rgba = restorer(np.concatenate([photo, photo[..., 1:2]], axis=-1))
  np.testing.assert_array_equal(rgba[..., :3], restorer(photo))
  np.testing.assert_array_equal(rgba[..., 3], np.stack([photo[..., 1]] * 7))


def test_frames_have_no_ensemble():
  *network, _ = film_network('c')
  with pytest.raises(UserError, match='frames have no ensemble: their order in time may differ'):
    Restorer(*network, output='frames', ensemble=True)


def test_dtype_is_the_computations(network, photo):
  exact = Restorer(*network)(photo / 255)
  rounded = Restorer(*network, dtype='bfloat16')(photo / 255)
  error = np.abs(rounded - exact).max()
  assert 1e-4 < error < 0.1


@pytest.mark.parametrize(
  ('features', 'tile'), [pytest.param(32, 64, marks=pytest.mark.full), (7, None)]
)
def test_bfloat16_equals_float32_within_rounding(features, tile):
  """In tiles with masked borders, and with a width that no vector divides."""
  model = create_model(**small.MODEL | {'features': features})
  variables = normal_variables(model)
  image = skimage.data.coffee()[:50, :90] / 255
  options = {'tile': tile, 'overlap': 16}
  exact = Restorer(model, variables, **options)(image)
  rounded = Restorer(model, variables, dtype='bfloat16', **options)(image)
  scale = np.abs(exact).max()
  assert 1e-4 < np.abs(rounded - exact).max() < 0.03 * scale
  assert np.abs(rounded - exact).mean() < 0.005 * scale


def test_8_bit_images_may_be_computed_in_another_type(network, restorer, photo):
  both = Restorer(*network, dtype_8bit='bfloat16')
  rounded = Restorer(*network, dtype='bfloat16')
  assert (both.dtype, both.dtype_8bit, restorer.dtype_8bit) == ('float32', 'bfloat16', 'float32')
  deep = photo.astype(np.uint16) * 257
  np.testing.assert_array_equal(both(photo), rounded(photo))
  np.testing.assert_array_equal(both(deep), restorer(deep))
  np.testing.assert_array_equal(both(photo / 255), restorer(photo / 255))
  assert (rounded(deep) != restorer(deep)).any()


@pytest.mark.parametrize('weights', ['gfn', 'bmdsrnet'])
def test_a_smooth_gradient_stays_smooth_in_bfloat16(weights):
  exact = Restorer.from_pretrained(weights)
  rounded = Restorer.from_pretrained(weights, dtype_8bit='bfloat16')
  ramp = np.linspace(0, 255, 64)
  colours = np.broadcast_arrays(ramp, ramp[::-1], ramp[:48, None])
  grey = np.broadcast_to(ramp[:, None], (48, 64, 3))
  for image in (np.stack(colours, axis=-1), grey):  # [48, 64, 3]
    assert_close(rounded(image.round().astype(np.uint8)), exact(image.round().astype(np.uint8)))


def test_a_program_that_onednn_cannot_run_is_compiled_without_it(
  network, photo, monkeypatch, capsys
):
  monkeypatch.setattr(cpu_bfloat16, '_failed', failed := [])
  offered = {'xla_cpu_experimental_onednn_custom_call': True}
  monkeypatch.setattr(
    cpu_bfloat16,
    'compiler_options',
    lambda dtype: offered if dtype == 'bfloat16' and not failed else None,
  )

  def fail(*_):
    raise jax.errors.JaxRuntimeError('INTERNAL: no such primitive\nmore')

  compiled = predictor._compiled
  monkeypatch.setattr(predictor, '_compiled', lambda onednn: fail if onednn else compiled(False))
  restorer = Restorer(*network, dtype='bfloat16')
  restored = restorer(photo)
  assert capsys.readouterr().err == (
    'bfloat16 is computed without oneDNN, which is slower: INTERNAL: no such primitive\n'
  )
  np.testing.assert_array_equal(restorer(photo), restored)
  assert capsys.readouterr().err == ''
  assert_close(restored, Restorer(*network)(photo), steps=4)


class OutOfMemory:
  """Fails as a device does, for arrays above a size."""

  def __init__(self, restorer, largest):
    self.predict, self.largest, self.sides = restorer._predictor.predict, largest, []

  def __call__(self, x, inside):
    self.sides.append(x.shape[2])
    if x.shape[2] > self.largest:
      raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.')
    return self.predict(x, inside)


def test_automatic_tiles_are_halved_when_memory_runs_out(network, monkeypatch, capsys):
  image = skimage.data.coffee()[:40, :300]
  restorer = Restorer(*network)
  monkeypatch.setattr(memory, 'available_bytes', lambda device: 2**40)
  restorer._predictor.predict = fake = OutOfMemory(restorer, largest=128)
  assert_close(restorer(image), Restorer(*network, tile=128)(image))
  assert restorer.tile == 128
  assert fake.sides[:4] == [320, 320, 192, 128]
  assert capsys.readouterr().err.splitlines() == [
    f'out of memory with tiles of {tile}, trying {smaller}'
    for tile, smaller in [(768, 384), (384, 192), (192, 128)]
  ]
  restorer(image)
  assert max(fake.sides[4:]) == 128  # remembered

  restorer._predictor.predict = OutOfMemory(restorer, largest=0)
  with pytest.raises(UserError, match='tile 128: out of memory on .*; pass a smaller tile'):
    restorer(image)


@pytest.mark.parametrize(('tile', 'advice'), [(256, 'a smaller tile'), (None, "tile='auto'")])
def test_chosen_tiles_are_not_changed(network, photo, tile, advice):
  restorer = Restorer(*network, tile=tile)
  restorer._predictor.predict = OutOfMemory(restorer, largest=0)
  with pytest.raises(UserError, match=f'out of memory on .*; pass {advice}'):
    restorer(photo)


def test_other_errors_of_the_device_are_not_hidden(restorer, network, photo):
  restorer = Restorer(*network)

  def fail(*_):
    raise jax.errors.JaxRuntimeError('INTERNAL: something else')

  restorer._predictor.predict = fail
  with pytest.raises(jax.errors.JaxRuntimeError, match='something else'):
    restorer(photo)


def test_automatic_tiles_fit_into_memory(network, photo, monkeypatch):
  sides = []
  for gigabytes in (1e-3, 0.05, 0.2, 1, 100):
    monkeypatch.setattr(memory, 'available_bytes', lambda device, n=gigabytes: n * 2**30)
    restorer = Restorer(*network)
    restorer(photo)
    sides.append(restorer.tile)
  assert sides == sorted(sides)
  assert sides[0] == 128  # the least above the overlap
  assert sides[-1] == 768
  assert len(set(sides)) >= 3
  monkeypatch.setattr(memory, 'available_bytes', lambda device: 2**30)
  wide = create_model(**small.MODEL | {'features': 32})  # four times the channels: half the side
  assert Restorer(wide, normal_variables(wide))._largest_tile() <= sides[3] * 0.6


def used_devices(restorer):
  """Return the list of devices that further batches of a restorer go to."""
  used, predict = [], restorer._predictor.predict

  def note(x, inside):
    used.append(x.device)
    return predict(x, inside)

  restorer._predictor.predict = note
  return used


@pytest.mark.parametrize('batch_size', [1, 2])
def test_tiles_go_to_all_devices_in_turn(network, devices, monkeypatch, batch_size):
  image = skimage.data.astronaut()[:100, :170]  # 3 by 5 tiles, or 8 batches of 2
  options = {'tile': 64, 'overlap': 32, 'batch_size': batch_size}
  shared = Restorer(*network, **options)
  used, waiting = used_devices(shared), []
  restored = shared(
    image, progress=lambda done, _: waiting.append(len(used) - -(-done // batch_size))
  )
  count = -(-15 // batch_size)
  assert used == [devices[i % 8] for i in range(count)]
  assert waiting == [7] * (count - 8) + [*range(7, -1, -1)]  # one batch on each device
  monkeypatch.setattr(jax, 'local_devices', lambda: devices[:1])
  alone = Restorer(*network, **options)
  used = used_devices(alone)
  waiting.clear()
  result = alone(image, progress=lambda done, _: waiting.append(len(used) - -(-done // batch_size)))
  np.testing.assert_array_equal(result, restored)
  assert used == devices[:1] * count
  assert waiting == [0] * count


def test_devices_that_share_the_memory_are_left_out_if_it_is_small(network, devices, monkeypatch):
  monkeypatch.setattr(memory, 'peak_bytes', lambda *_: 64**2)  # a byte a pixel
  monkeypatch.setattr(memory, 'available_bytes', lambda device: 2 * 3.5 * 64**2)
  monkeypatch.setattr(restorer_module, 'MAX_TILE', 64)
  restorer = Restorer(*network, overlap=32)
  used = used_devices(restorer)
  restorer(skimage.data.astronaut()[:64, :200])
  assert restorer.tile == 64
  assert used == [devices[i] for i in (0, 1, 2, 0, 1, 2)]


@pytest.mark.parametrize(
  ('image', 'error', 'message'),
  [
    (np.zeros((4, 4, 5), np.uint8), ValueError, r'not \(4, 4, 5\)'),
    (np.zeros(4, np.uint8), ValueError, r'\[h, w\] or \[h, w, C\] with C from 1 to 4, not \(4,\)'),
    (np.zeros((0, 4, 3), np.uint8), ValueError, r'not \(0, 4, 3\)'),
    (np.zeros((4, 4, 3), np.int32), TypeError, 'not int32'),
    ([[0, 1], [2, 3]], TypeError, 'not int64'),
    (np.full((4, 4, 3), np.nan), ValueError, 'not from nan to nan'),
    (np.full((4, 4, 3), 255.0), ValueError, 'not from 255.0 to 255.0'),
    (Image.new('F', (4, 4)), UserError, 'cannot read the image: floating'),
    ('nowhere.png', UserError, 'nowhere.png'),
  ],
)
def test_bad_input(restorer, image, error, message):
  with pytest.raises(error, match=message):
    restorer(image)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'tile': 100}, 'tile 100: pass a multiple of 32'),
    ({'tile': 64}, 'tile 64 is not larger than overlap 96'),
    ({'tile': 'big'}, "tile 'big': pass a number, None or 'auto'"),
    ({'overlap': 5}, 'overlap 5: pass a multiple of 16'),
    ({'batch_size': 0}, 'batch_size 0: pass 1 or more'),
    ({'output': 'sr'}, "output 'sr': choose from hr, lr, frames"),
    ({'output': 'frames'}, 'GFN makes no frames; use BMDSRNet'),
    ({'dtype': 'int8'}, "dtype 'int8': choose from float32, bfloat16, float16"),
    ({'dtype_8bit': 'int8'}, "dtype 'int8': choose from float32, bfloat16, float16"),
  ],
)
def test_bad_options(network, options, message):
  with pytest.raises(UserError, match=message):
    Restorer(*network, **options)


def test_a_network_without_a_deblurred_image():
  options = {key: small.MODEL[key] for key in ('features', 'sr_blocks', 'reconstruction_blocks')}
  model = create_model('sr_branch', **options)
  with pytest.raises(UserError, match='SRBranch has no deblurred image at the size of its input'):
    Restorer(model, normal_variables(model), output='lr')


def test_a_turned_photo_is_restored_upright(restorer, photo, tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # to be turned clockwise
  Image.fromarray(photo).save(tmp_path / 'turned.png', exif=exif)
  np.testing.assert_array_equal(restorer(tmp_path / 'turned.png'), restorer(np.rot90(photo, -1)))
