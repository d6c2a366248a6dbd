import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import skimage.data

from benchmarks import flicker, frames, timing, torch_peer, workloads, xla
from benchmarks.torch_peer import TorchPeer
from gfn_jax.configs import gfn_open
from gfn_jax.errors import UserError
from gfn_jax.images import folders
from gfn_jax.interop import save_torch_checkpoint, to_torch
from gfn_jax.models import create_model, init_variables
from gfn_jax.ops import metrics
from tests import small

PEER_PYTHON = os.environ.get('GFN_JAX_PEER_PYTHON', sys.executable)
requires_torch = pytest.mark.skipif(
  sys.executable == PEER_PYTHON and not importlib.util.find_spec('torch'),
  reason='PyTorch is missing; GFN_JAX_PEER_PYTHON names a Python that has it',
)


def small_gfn():
  model = create_model(**small.MODEL)
  return model, jax.tree.map(lambda p: p + 0.01, init_variables(model, seed=0))  # biases too


@requires_torch
@pytest.mark.parametrize('kind', ['inference', 'train'])
def test_the_network_in_pytorch_is_ours_and_learns_alike(kind):
  model, variables = small_gfn()
  batch = workloads.noise_batch(8, 16)
  ours = {}
  with TorchPeer(model, variables, PEER_PYTHON) as peer:  # compares the images
    if kind == 'inference':
      theirs = peer.inference_workloads(batch['lr_blur'])
    else:
      theirs = peer.train_workloads(batch, workloads.LEARNING_RATE)
      ours = {'jax': workloads.train_workload(model, variables, batch)}
    assert list(theirs) == ['torch', 'torch channels_last', 'torch channels_last bfloat16']
    for _ in range(2):
      results = {name: call() for name, call in theirs.items()}
      assert all(result.wall > 0 and result.cpu > 0 for result in results.values())
      if ours:
        losses = {name: result.result for name, result in results.items()}
        workloads.check_losses({name: float(call()) for name, call in ours.items()} | losses)


@requires_torch
def test_a_network_in_pytorch_with_other_parameters_is_refused(monkeypatch):
  model, variables = small_gfn()
  changed = jax.tree.map(lambda p: p + 1e-3, variables)
  monkeypatch.setattr(
    torch_peer, 'to_torch', lambda name, _, **options: to_torch(name, changed, **options)
  )
  with pytest.raises(UserError, match='differ by'):
    TorchPeer(model, variables, PEER_PYTHON)


def test_a_peer_that_cannot_run_is_one_line(tmp_path):
  model, variables = small_gfn()
  with pytest.raises(ValueError, match='gated once'):
    TorchPeer(model.clone(gated=False), variables, sys.executable)
  with pytest.raises(UserError, match=r'^--peer_python=.*none: No such file or directory$'):
    TorchPeer(model, variables, str(tmp_path / 'none'))
  python = tmp_path / 'python'
  python.write_text('#!/bin/sh\necho Traceback >&2\necho "No module named torch" >&2\nexit 1\n')
  python.chmod(0o755)
  with pytest.raises(UserError, match=r'python failed: No module named torch; pip install'):
    TorchPeer(model, variables, str(python))


def test_the_time_of_another_process_is_taken_as_it_says():
  other = {'torch': lambda: timing.Measured(wall=3.0, cpu=5.0, result=0.5)}
  seconds = timing.time_in_turns(other, rounds=2)['torch']
  assert (seconds.first, seconds.wall, seconds.cpu) == (3.0, [3.0, 3.0], [5.0, 5.0])
  assert seconds.first_result == 0.5


def test_ratios_are_medians_within_rounds():
  # The third round ran under other load.
  assert timing.ratio([1.0, 1.2, 9.0], [2.0, 2.0, 18.0]) == 0.5


def test_workloads_are_called_in_turns_and_the_first_call_is_separate():
  calls = []
  names = ('a', 'b')
  seconds = timing.time_in_turns({n: lambda n=n: calls.append(n) or len(calls) for n in names}, 2)
  assert calls == ['a', 'b'] * 3
  assert [len(seconds[name].wall) for name in names] == [2, 2]
  assert [seconds[name].first_result for name in names] == [1, 2]


def test_the_summary_compares_ours_with_peers_and_matrix_products():
  def seconds(wall, cpu):
    return timing.Seconds(first=9.0, wall=[wall] * 3, cpu=[cpu] * 3)

  measured = {
    'jax': seconds(2.0, 4.0),
    'torch': seconds(1.0, 2.0),
    'matmul jax': seconds(1.0, 2.0),
  }
  rows = timing.summarize(measured, 'cpu', flops=1e12, matmul_side=10_000)
  assert rows['jax']['times'] == {'torch': 2.0}
  assert rows['jax']['cpu_times'] == {'torch': 2.0}
  assert rows['jax']['tflops'] == 0.5
  assert rows['jax']['share_of_matmul'] == 0.25  # of 2 TFLOP/s
  assert rows['matmul jax']['tflops'] == 2.0
  assert 'times' not in rows['torch']
  assert 'cpu_times' not in timing.summarize(measured, 'gpu', 1e12, 10_000)['jax']


def test_flops_are_those_of_the_papers_network():
  model = create_model('gfn')
  variables = jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, 4, 4, 3), 'f4')))
  flops = workloads.forward_flops(model, variables, (1, 180, 320, 3))
  assert flops == pytest.approx(2 * 4_338_432 * 180 * 320, rel=0.03)  # without zeros


@pytest.mark.parametrize('size', ['320', '320x', '0x0', '30x20', '320x180x3'])
def test_sizes_are_checked(size):
  with pytest.raises(UserError, match='size'):
    timing.parse_size(size)
  assert timing.parse_size('320x180') == (320, 180)


def test_losses_must_agree():
  workloads.check_losses({'jax': 1.0, 'torch': 1.0005, 'torch channels_last bfloat16': 1.04})
  with pytest.raises(UserError, match='first loss'):
    workloads.check_losses({'jax': 1.0, 'torch': 1.01})
  with pytest.raises(UserError, match='first loss'):
    workloads.check_losses({'jax': float('nan'), 'torch': 1.0})


def test_frames_are_compared_in_the_better_order_of_time():
  rng = np.random.default_rng(0)
  targets = rng.integers(0, 255, (7, 8, 8, 3), np.uint8)
  restored = targets[::-1] + np.uint8(1)
  image = {'lr_blur': targets[0], 'frames': targets}
  scores = frames.compare(lambda _: restored, image)
  assert scores['frames'] == pytest.approx([20 * np.log10(255)] * 4)
  both = [metrics.psnr(restored[3], targets[n]) for n in (1, 5)]
  assert scores['middle frame'][2] == pytest.approx(np.mean(both))
  assert scores['blurred'][0] == pytest.approx(metrics.psnr(targets[0], targets[3]))
  assert scores['blurred'][3] == np.inf  # one of the two ends is this image


@pytest.mark.full
@pytest.mark.end_to_end
def test_realism_of_blur_is_measured_at_the_size_of_the_files(tmp_path):
  pytest.importorskip('matplotlib')
  sharp = np.random.default_rng(0).integers(20, 220, (160, 160, 3), np.uint8)
  for name, image in {'sharp': sharp, 'blur': sharp + np.uint8(5)}.items():
    (tmp_path / 'pairs' / name).mkdir(parents=True)
    folders.write_png(tmp_path / 'pairs' / name / '1.png', image)
  # In separate processes, because the flags of the benchmarks have equal names.
  command = [sys.executable, '-m', 'benchmarks.blur_realism', f'--pairs={tmp_path}/pairs']
  command += ['--world=reds', '--blur_name=blur', '--repeats=1', f'--output={tmp_path}/realism']

  def measure(reduce):
    result = subprocess.run([*command, f'--reduce={reduce}'], capture_output=True, text=True)
    return result.returncode, result.stderr.splitlines()[-1]

  status, message = measure(4)
  assert status == 1
  assert message.endswith('must have the same size, 320 pixels a side or more')

  reports = []
  for reduce in (1, 2):
    status, message = measure(reduce)
    assert status == 0, message
    assert (tmp_path / 'realism.png').stat().st_size
    reports.append(json.loads((tmp_path / 'realism.json').read_text()))
  small, large = reports
  assert (small['world'], small['reduce'], large['reduce']) == ('reds', 1, 2)
  assert small['ranges'] | {'share': 1.0} == json.loads(gfn_open.reds().to_json())
  assert (small['patches'], small['patch_size']) == (1, 128)
  assert small['psnr']['real']['50'] == pytest.approx(20 * np.log10(255 / 5), abs=0.005)
  assert small['brightness']['real']['50'] == 5
  assert small['gradient_ratio']['real']['50'] == 1
  # In files of half the size the same motion is half as long.
  assert small['psnr']['synthetic']['50'] > large['psnr']['synthetic']['50']


@pytest.mark.full
@pytest.mark.end_to_end
def test_weights_of_dmphn_are_compared_and_evaluated(tmp_path, gopro_tree):
  options = {'features': 2, 'levels': 2}
  model = create_model('dmphn', **options)
  variables = init_variables(model, seed=0)
  state = to_torch('dmphn', variables, **options)
  for module in ('encoder_lv1', 'decoder_lv1', 'encoder_lv2', 'decoder_lv2'):
    prefix = f'{module}.'
    mine = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    save_torch_checkpoint(tmp_path / f'{module}.pkl', mine)
  x = np.random.default_rng(0).integers(0, 255, (16, 20, 3), np.uint8)
  lr = np.asarray(jax.jit(model.apply)(variables, x[None] / np.float32(255)).lr[0])
  command = [sys.executable, '-m', 'benchmarks.dmphn_official', f'--weights={tmp_path}']
  command += [f'--pairs={gopro_tree}/test', f'--reference={tmp_path}/reference.npz']
  command += [f'--output={tmp_path}/scores.json']

  np.savez(tmp_path / 'reference.npz', x0=x, lr0=lr)
  result = subprocess.run(command, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
  report = json.loads((tmp_path / 'scores.json').read_text())
  assert report['model'] == {'name': 'dmphn', **options}
  assert report['difference'] < 1e-4
  [image] = report['images']
  assert image['scores'] == report['means']
  assert list(report['means']) == ['bicubic', 'dmphn, bicubic']
  assert '| mean | ' in result.stdout

  np.savez(tmp_path / 'reference.npz', x0=x, lr0=lr[::-1])
  result = subprocess.run(command, capture_output=True, text=True)
  assert result.returncode == 1
  assert 'the difference exceeds 2e-04' in result.stderr


PROGRAM = """HloModule jit_f

%fused (p: f32[2,3]) -> f32[2,3] {
  %p = f32[2,3]{1,0} parameter(0)
  ROOT %n = f32[2,3]{1,0} negate(%p)
}

ENTRY %main (x: f32[2,3]) -> bf16[6] {
  %x = f32[2,3]{1,0} parameter(0), metadata={op_name="x"}
  %loop_fusion = f32[2,3]{1,0} fusion(%x), kind=kLoop, calls=%fused
  %loop_fusion.1 = f32[2,3]{1,0} fusion(%loop_fusion), kind=kLoop, calls=%fused
  %conv.2 = (f32[2,3]{1,0}, u8[100]{0}) custom-call(%x, %loop_fusion.1), custom_call_target="c"
  %get-tuple-element = f32[2,3]{1,0} get-tuple-element(%conv.2), index=0
  ROOT %convert.7 = bf16[6]{0} convert(%get-tuple-element)
}
"""


def test_what_a_compiled_program_moves():
  assert xla.summarize(PROGRAM) == {
    'conv': {'count': 1, 'gb': pytest.approx(3 * 24e-9 + 100e-9)},
    'loop_fusion': {'count': 2, 'gb': pytest.approx(4 * 24e-9)},
    'convert': {'count': 1, 'gb': pytest.approx(36e-9)},
  }
  assert xla.type_bytes('s32[]') == 4
  assert xla.type_bytes('(pred[3]{0}, f8e4m3fn[2,2], u16[5]{0:T(8)(2,1)S(1)})') == 3 + 4 + 10

  product = jax.jit(lambda x, y: x @ y).lower(np.ones((64, 32), 'f'), np.ones((32, 16), 'f'))
  [row] = xla.summarize(product.compile().as_text()).values()
  assert row == {'count': 1, 'gb': timing.digits(4e-9 * (64 * 32 + 32 * 16 + 64 * 16))}


def test_only_known_devices_are_compiled_for(tmp_path):
  assert xla.find_devices('cpu', '') == jax.local_devices()[:1]
  with pytest.raises(UserError, match="^cannot compile for cuda '.*/none': .*No such file"):
    xla.find_devices('cuda', str(tmp_path / 'none'))


@pytest.mark.end_to_end
@pytest.mark.parametrize(
  ('benchmark', 'results'),
  [
    ('ablation', ['ablation_cpu']),
    pytest.param(
      'bmdsrnet',
      [f'bmdsrnet_{name}cpu' for name in ('', 'absolute_', 'either_', 'signed_')],
      marks=pytest.mark.full,
    ),
  ],
)
def test_tables_of_narrow_networks_name_their_budget_and_hold_no_published_numbers(
  benchmark, results
):
  # In a separate process, because the flags of the benchmarks have equal names.
  command = [
    sys.executable,
    '-c',
    TABLES,
    benchmark,
    *(str(RESULTS / f'{n}.json') for n in results),
  ]
  process = subprocess.run(command, capture_output=True, text=True)
  assert process.returncode == 0, process.stderr
  for name, table in zip(results, json.loads(process.stdout), strict=True):
    assert table + '\n' == (RESULTS / f'{name}.md').read_text()
    heading, _, columns, *_ = table.splitlines()
    assert heading.startswith('Narrow networks, 16 features: ')
    assert '2,000 steps of 8 crops of 24x24 LR pixels on cpu; ' in heading
    assert 'paper' not in columns
    assert '27.74' not in table


RESULTS = pathlib.Path(__file__).parents[1] / 'benchmarks/results'
TABLES = """
import importlib, json, sys
name, *paths = sys.argv[1:]
module = importlib.import_module(f'benchmarks.{name}')
print(json.dumps([module.format_table(json.load(open(path))) for path in paths]))
"""


def test_flicker_follows_the_scene():
  photo = skimage.data.astronaut()
  still = [photo[100:228, 150:278]] * 3
  moving = [photo[100:228, 150 + 2 * i : 278 + 2 * i] for i in range(3)]
  noise = np.random.default_rng(0).integers(-20, 21, (3, 128, 128, 1))
  noisy = [
    np.clip(frame + more, 0, 255).astype(np.uint8)
    for frame, more in zip(moving, noise, strict=True)
  ]
  flows = [flicker.flow(a, b) for a, b in zip(moving, moving[1:], strict=False)]
  at_rest = [flicker.flow(a, b) for a, b in zip(still, still[1:], strict=False)]
  assert flicker.measure(still, still, at_rest) == {'change': 0, 'flicker': 0, 'psnr': None}
  clean, other = (flicker.measure(f, moving, flows) for f in (moving, noisy))
  assert clean['flicker'] < 0.5 * clean['change']
  # The mean difference of two such noises is 41/3 minus a little; warping averages the first.
  assert 8 < other['flicker'] - clean['flicker'] < 14
  assert 26 < other['psnr'] < 28  # 10 log10(255^2 / 140)


def test_steadied_frames_are_averages_over_time():
  noise = np.random.default_rng(0).normal(128, 4, (9, 32, 32, 1)).repeat(3, axis=-1)
  frames = list(noise.astype(np.uint8))
  middle = flicker.steadied(frames, 0.3)[4]
  assert len(flicker.steadied(frames, 0.3)) == 9
  assert np.abs(middle - np.mean(frames[2:7], axis=0)).max() < 3
  np.testing.assert_allclose(flicker.steadied(frames, 0)[4].astype(int), frames[4], atol=2)
