import dataclasses
import functools
import importlib
import pathlib

import pytest
from flax import traverse_util

from gfn_jax import UserError, create_model
from gfn_jax.configs.tables import comparison, gfn_table2
from gfn_jax.data.blur_options import MotionBlur
from gfn_jax.models import param_count, variable_shapes
from gfn_jax.models.cascade import Cascade
from gfn_jax.weights.pretrained import load_pretrained
from tests.phases import phases_of

PARAMETERS = {
  'bmdsrnet': 2_926_427,
  'bmdsrnet:c,x2': 1_568_408,
  'bmdsrnet:x2,f+c': 2_924_699,
  'bmdsrnet:x3,srnet': 779_011,
  'bmdsrnet:x4,f+c+b': 2_926_427,
  'bmdsrnet:x4,f+c+b,paper': 2_926_427,
  'bmdsrnet:x4,f+c+b,photos': 2_926_427,
  'bmdsrnet:x4,f+c+b,small': 222_880,
  'bmdsrnet:c,open': 397_144,
  'bmdsrnet:x4,f+c+b,table2': 43_574_846,
  'cnlrn': 83_068_294,
  'cnlrn:no_deblurring': 9_974_659,
  'cnlrn:no_gradient_loss': 83_068_294,
  'cnlrn:no_nonlocal': 80_603_014,
  'cnlrn:no_progressive': 83_068_294,
  'cnlrn:paper': 83_068_294,
  'tables.comparison': 334_982,
  'tables.comparison:gfn': 334_982,
  'tables.comparison:motion_deblur_sr': 349_500,
  'tables.comparison:cnlrn': 378_302,
  'tables.comparison:cnlrn_apart': 377_006,
  'tables.comparison:bmdsrnet': 222_880,
  'tables.comparison:srresnet': 56_576,
  'tables.comparison:edsr': 131_523,
  'tables.comparison:rcan': 86_179,
  'tables.comparison:han': 100_065,
  'tables.comparison:rrdbnet': 145_379,
  'tables.comparison:srfbn': 122_018,
  'tables.comparison:scgan_like': 69_315,
  'tables.comparison:ed_dsrn_like': 72_507,
  'tables.comparison:mprnet': 289_689,
  'tables.comparison:deepdeblur': 126_969,
  'tables.comparison:dmphn': 114_700,
  'tables.comparison:srn': 162_747,
  'tables.comparison:deblurgan': 112_707,
  'tables.comparison:mprnet_srresnet': 346_265,
  'tables.comparison:srresnet_mprnet': 346_265,
  'tables.comparison:srn_rcan': 248_926,
  'tables.comparison:edsr_deepdeblur': 258_492,
  'gfn': 12_210_438,
  'tables.gfn_table2': 12_210_438,
  'tables.gfn_table2:gfn': 12_210_438,
  'tables.gfn_table2:model_1': 12_130_758,
  'tables.gfn_table2:model_2': 12_130_758,
  'tables.gfn_table2:model_3': 13_057_481,
  'tables.gfn_table2:model_4': 12_130_758,
  'tables.gfn_table2:model_5': 12_130_758,
  'tables.gfn_table2:srresnet': 1_546_752,
  'tables.gfn_table2:gfn,small': 334_982,
  'tables.gfn_table2:model_1,small': 329_654,
  'tables.gfn_table2:model_2,small': 329_654,
  'tables.gfn_table2:model_3,small': 365_337,
  'tables.gfn_table2:model_4,small': 329_654,
  'tables.gfn_table2:model_5,small': 329_654,
  'tables.gfn_table2:srresnet,small': 56_576,
  'gfn:paper': 12_210_438,
  'gfn_paper': 12_210_438,
  'gfn_paper:paper': 12_210_438,
  'gfn_open': 1_760_883,
  'gfn_open:deblur': 1_760_883,
  'gfn_open:decay,camera,gopro': 1_760_883,
  'gfn_photos': 12_210_438,
  'gfn_photos:small': 1_184_550,
  'gfn_photos:small_finetune': 1_760_883,
  'gfn_photos:small_sr': 118_779,
  'gfn_small': 334_982,
  'motion_deblur_sr': 21_839_972,
  'motion_deblur_sr:code': 21_839_972,
  'motion_deblur_sr:paper': 21_839_972,
  'mprnet': 20_127_073,
  'mprnet:paper': 20_127_073,
  'super_resolution:edsr': 43_089_923,
  'super_resolution:edsr,blurred': 43_089_923,
  'super_resolution:edsr_baseline': 1_517_571,
  'super_resolution:edsr_baseline,blurred': 1_517_571,
  'super_resolution:rcan': 15_592_355,
  'super_resolution:rcan,blurred': 15_592_355,
  'super_resolution:han': 16_071_745,
  'super_resolution:han,blurred': 16_071_745,
  'super_resolution:srfbn': 3_631_454,
  'super_resolution:srfbn,blurred': 3_631_454,
  'super_resolution:rrdbnet': 16_697_987,
  'super_resolution:rrdbnet,blurred': 16_697_987,
  'super_resolution:srresnet': 1_546_752,
  'super_resolution:srresnet,blurred': 1_546_752,
  'super_resolution': 43_089_923,
  'deblurring:deepdeblur': 11_721_321,
  'deblurring:dmphn': 7_232_524,
  'deblurring:srn': 6_881_251,
  'deblurring:deblurgan': 11_378_179,
  'deblurring': 11_721_321,
  'cascade': 21_673_825,
  'cascade:mprnet,srresnet': 21_673_825,
  'cascade:mprnet,srresnet,apart': 21_673_825,
  'cascade:edsr,deepdeblur': 54_811_244,
  'cascade:srn,rcan': 22_473_606,
  'cascade:rrdbnet,dmphn': 23_930_511,
  'tables.gfn_table1': 12_210_438,
  'tables.gfn_table1:srresnet': 1_546_752,
  'tables.gfn_table1:edsr': 43_089_923,
  'tables.gfn_table1:scgan_retrained': 1_082_883,
  'tables.gfn_table1:srresnet_retrained': 1_546_752,
  'tables.gfn_table1:ed_dsrn': 25_269_827,
  'tables.gfn_table1:deepdeblur_srresnet': 13_268_073,
  'tables.gfn_table1:srresnet_deepdeblur': 13_268_073,
  'tables.gfn_table1:deblurgan_srresnet': 12_924_931,
  'tables.gfn_table1:srresnet_deblurgan': 12_924_931,
  'tables.gfn_table1:deblurgan_edsr': 54_468_102,
  'tables.gfn_table1:edsr_deblurgan': 54_468_102,
  'tables.gfn_table1:deepdeblur_edsr': 54_811_244,
  'tables.gfn_table1:edsr_deepdeblur': 54_811_244,
  'tables.gfn_table1:gfn': 12_210_438,
  'tables.gfn_table1:dmphn_bicubic': 7_232_524,
  'tables.motion_deblur_sr_table1': 21_839_972,
  'tables.motion_deblur_sr_table1:edsr': 1_517_571,
  'tables.motion_deblur_sr_table1:han': 16_071_745,
  'tables.motion_deblur_sr_table1:mprnet_edsr': 21_644_644,
  'tables.motion_deblur_sr_table1:mprnet_han': 36_198_818,
  'tables.motion_deblur_sr_table1:dmphn_edsr': 8_750_095,
  'tables.motion_deblur_sr_table1:edsr_dmphn': 8_750_095,
  'tables.motion_deblur_sr_table1:dmphn_han': 23_304_269,
  'tables.motion_deblur_sr_table1:han_dmphn': 23_304_269,
  'tables.motion_deblur_sr_table1:gfn': 12_210_438,
  'tables.motion_deblur_sr_table1:motion_deblur_sr': 21_839_972,
  'tables.motion_deblur_sr_table1:dmphn_bicubic': 7_232_524,
  'tables.bmdsrnet_table4': 2_926_427,
  'tables.bmdsrnet_table4:srnet,x2': 779_011,
  'tables.bmdsrnet_table4:srnet,x3': 779_011,
  'tables.bmdsrnet_table4:srnet,x4': 779_011,
  'tables.bmdsrnet_table4:c,x2': 1_568_408,
  'tables.bmdsrnet_table4:c,x3': 1_568_408,
  'tables.bmdsrnet_table4:c,x4': 1_568_408,
  'tables.bmdsrnet_table4:fc,x2': 2_924_699,
  'tables.bmdsrnet_table4:fc,x3': 2_924_699,
  'tables.bmdsrnet_table4:fc,x4': 2_924_699,
  'tables.bmdsrnet_table4:fcb,x2': 2_926_427,
  'tables.bmdsrnet_table4:fcb,x3': 2_926_427,
  'tables.bmdsrnet_table4:fcb,x4': 2_926_427,
  'tables.bmdsrnet_table5': 2_926_427,
  'tables.bmdsrnet_table5:rcan,x2': 15_444_643,
  'tables.bmdsrnet_table5:rcan,x3': 15_629_283,
  'tables.bmdsrnet_table5:rcan,x4': 15_592_355,
  'tables.bmdsrnet_table5:rcan_srn,x2': 22_325_894,
  'tables.bmdsrnet_table5:rcan_srn,x3': 22_510_534,
  'tables.bmdsrnet_table5:rcan_srn,x4': 22_473_606,
  'tables.bmdsrnet_table5:srn_rcan,x2': 22_325_894,
  'tables.bmdsrnet_table5:srn_rcan,x3': 22_510_534,
  'tables.bmdsrnet_table5:srn_rcan,x4': 22_473_606,
  'tables.bmdsrnet_table5:srfbn,x2': 2_140_510,
  'tables.bmdsrnet_table5:srfbn,x3': 2_832_734,
  'tables.bmdsrnet_table5:srfbn,x4': 3_631_454,
  'tables.bmdsrnet_table5:srfbn_srn,x2': 9_021_761,
  'tables.bmdsrnet_table5:srfbn_srn,x3': 9_713_985,
  'tables.bmdsrnet_table5:srfbn_srn,x4': 10_512_705,
  'tables.bmdsrnet_table5:srn_srfbn,x2': 9_021_761,
  'tables.bmdsrnet_table5:srn_srfbn,x3': 9_713_985,
  'tables.bmdsrnet_table5:srn_srfbn,x4': 10_512_705,
  'tables.bmdsrnet_table5:gfn,x4': 12_210_438,
  'tables.bmdsrnet_table5:bmdsrnet,x2': 2_926_427,
  'tables.bmdsrnet_table5:bmdsrnet,x3': 2_926_427,
  'tables.bmdsrnet_table5:bmdsrnet,x4': 2_926_427,
  'tables.bmdsrnet_table6': 2_926_427,
  'tables.bmdsrnet_table6:srresnet': 1_546_752,
  'tables.bmdsrnet_table6:edsr': 43_089_923,
  'tables.bmdsrnet_table6:deepdeblur_srresnet': 13_268_073,
  'tables.bmdsrnet_table6:srresnet_deepdeblur': 13_268_073,
  'tables.bmdsrnet_table6:deblurgan_edsr': 54_468_102,
  'tables.bmdsrnet_table6:edsr_deblurgan': 54_468_102,
  'tables.bmdsrnet_table6:gfn': 12_210_438,
  'tables.bmdsrnet_table6:bmdsrnet': 2_926_427,
  'tables.bmdsrnet_table6:dmphn_bicubic': 7_232_524,
  'tables.cnlrn_table1': 83_068_294,
  'tables.cnlrn_table1:rrdbnet': 16_697_987,
  'tables.cnlrn_table1:rcan': 15_592_355,
  'tables.cnlrn_table1:gfn': 12_210_438,
  'tables.cnlrn_table1:mprnet_rcan': 35_719_428,
  'tables.cnlrn_table1:srn_rrdbnet': 89_793_414,
  'tables.cnlrn_table1:srn_rcan': 88_687_782,
  'tables.cnlrn_table1:cnlrn': 83_068_294,
  'tables.cnlrn_table2': 83_068_294,
  'tables.cnlrn_table2:rcan': 15_592_355,
  'tables.cnlrn_table4': 83_068_294,
  'tables.cnlrn_table4:no_deblurring': 9_974_659,
  'tables.cnlrn_table4:cnlrn': 83_068_294,
  'tables.cnlrn_table5': 83_068_294,
  'tables.cnlrn_table5:srn_rcan_apart': 88_687_782,
  'tables.cnlrn_table5:srn_rcan': 88_687_782,
  'tables.cnlrn_table5:srn_nlrn_apart': 83_070_086,
  'tables.cnlrn_table5:cnlrn': 83_068_294,
  'tables.cnlrn_table6': 83_068_294,
  'tables.cnlrn_table6:no_nonlocal': 80_603_014,
  'tables.cnlrn_table6:no_progressive': 83_068_294,
  'tables.cnlrn_table6:no_gradient_loss': 83_068_294,
  'tables.cnlrn_table6:cnlrn': 83_068_294,
}

CONFIGS_WITH_VARIANTS = sorted({name.partition(':')[0] for name in PARAMETERS if ':' in name})


def load(name):
  module, _, variant = name.partition(':')
  get_config = importlib.import_module(f'gfn_jax.configs.{module}').get_config
  return get_config(variant) if variant else get_config()


@functools.cache
def count(model):
  if isinstance(model, Cascade):  # tests/models/test_cascade.py checks that it is the sum
    return count(model.first) + count(model.second)
  return param_count(variable_shapes(model))


def test_every_config_is_in_the_table():
  root = pathlib.Path(__file__).parents[1] / 'configs'
  paths = [path for path in root.rglob('*.py') if path.stem not in ('__init__', 'defaults')]
  files = {'.'.join(path.relative_to(root).with_suffix('').parts) for path in paths}
  assert files == {name.partition(':')[0] for name in PARAMETERS}
  rows = {
    f'tables.gfn_table2:{row}{size}' for row in gfn_table2.TABLE.rows for size in ('', ',small')
  }
  rows |= {f'tables.comparison:{row}' for row in comparison.MODELS}
  assert rows <= PARAMETERS.keys()


def _is_long(name):
  """Return True for networks at full size, but for one of each file, which take long to trace."""
  is_row = name.startswith('tables.') and not name.startswith('tables.comparison')
  return is_row or (':' in name and PARAMETERS[name] > 6_000_000)


CONFIGS = [
  pytest.param(name, marks=pytest.mark.full if _is_long(name) else ()) for name in PARAMETERS
]


@pytest.mark.parametrize('name', CONFIGS)
def test_parameters(name):
  assert count(create_model(**load(name).model.to_dict())) == PARAMETERS[name]


@pytest.mark.parametrize('name', CONFIGS)
def test_phases(name):
  config = load(name)
  create_model(**config.model.to_dict())
  for phase in config.phases.values():
    create_model(**config.model.to_dict() | phase.model.to_dict())
  assert len(phases_of(config)) == len(config.phases)


def test_the_authors_schedule():
  phases = list(load('gfn').phases.values())
  assert [(phase.epochs, phase.model.gated, phase.lr_weight) for phase in phases] == [
    (25, False, 0.5),
    (60, False, 0.5),
    (55, True, 0.0),
  ]
  assert [phase.reset_optimizer for phase in phases] == [False, False, True]


def test_words_of_bmdsrnet_go_to_the_network_and_to_the_data():
  config = load('bmdsrnet:c,x2,photos')
  assert (config.model.scale, config.data.scale, config.data.frames) == (2, 2, True)
  assert config.model.variant == 'c'
  assert config.loss.frames.pair_difference == 'either'
  assert load('bmdsrnet').loss.frames.pair_difference == 'absolute'
  assert 'scale' not in load('bmdsrnet:x2').data  # the data set defines it
  for words in ('x2,x3', 'c,f+c', 'x5', 'x4,', 'paper,photos'):
    with pytest.raises(UserError, match='takes one of x2, x3, x4, one of srnet, '):
      load(f'bmdsrnet:{words}')


def test_the_papers_schedule():
  phases = list(load('gfn_paper').phases.values())
  assert [(phase.epochs, phase.model.gated, phase.lr_weight) for phase in phases] == [
    (60, False, 0.5),
    (50, True, 0.5),
  ]


@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    ('gfn:paper', {'model.initialization': 'authors', 'optimizer.clip_norm': 0.0}),
    ('gfn_paper:paper', {'model.initialization': 'authors', 'optimizer.clip_norm': 0.0}),
    ('mprnet:paper', {'optimizer.clip_norm': 0.0}),
    ('motion_deblur_sr:code', {'model.initialization': 'authors', 'optimizer.clip_norm': 0.0}),
    (
      'motion_deblur_sr:paper',
      {
        'model.initialization': 'authors',
        'optimizer.clip_norm': 0.0,
        'loss.edge.weight': 1.0,
        'phases.phase_1.epochs': 21,
      },
    ),
    (
      'bmdsrnet:paper',
      {
        'model.initialization': 'he',
        'optimizer.clip_norm': 0.0,
        'loss.frames.pair_difference': 'signed',
        'training.crop_size': 128,
      },
    ),
  ],
)
def test_the_literal_recipes_differ_from_the_defaults_in_these_places(name, changes):
  def flat(config):
    return traverse_util.flatten_dict(config.to_dict(), sep='.')

  default, literal = flat(load(name.partition(':')[0])), flat(load(name))
  assert default.keys() == literal.keys()
  assert {key: literal[key] for key in literal if literal[key] != default[key]} == changes


def test_the_ablation_differs_in_the_network_and_in_what_the_paper_says():
  gfn, paper = load('tables.gfn_table2:gfn'), load('gfn_paper')
  assert gfn.to_dict() == paper.to_dict()
  for name, weight in (('model_1', 0.5), ('model_4', 0.0), ('model_5', 0.5), ('srresnet', 0.5)):
    row = load(f'tables.gfn_table2:{name}')
    assert {phase.lr_weight for phase in row.phases.values()} == {weight}
    assert all(not phase.model for phase in row.phases.values())
    for config in (row, gfn):
      del config.model
      for phase in config.phases.values():
        del phase.model, phase.lr_weight
    assert row.to_dict() == gfn.to_dict()
    gfn = load('tables.gfn_table2:gfn')


def test_a_cascade_is_trained_together_or_one_network_after_the_other():
  [together] = load('cascade').phases.values()
  assert (together.hr_weight, together.lr_weight) == (1, 1)
  assert 'module_learning_rates' not in together
  deblurs, enlarges = load('cascade:mprnet,srresnet,apart').phases.values()
  assert (deblurs.hr_weight, deblurs.lr_weight) == (0, 1)
  assert (enlarges.hr_weight, enlarges.lr_weight) == (1, 0)
  assert enlarges.module_learning_rates.to_dict() == {'first': 0}
  assert enlarges.reset_optimizer  # it has seen zero gradients of the second network


def test_cnlrn_is_trained_as_in_the_authors_code():
  config = load('cnlrn')
  deblurring, joint = config.phases.values()
  assert (deblurring.hr_weight, deblurring.crop_size, joint.crop_size) == (0, 128, 64)
  assert joint.model.to_dict() == {'deblur_head': False}
  deblurring, joint = phases_of(config)
  assert [(phase.first_step, phase.last_step) for phase in (deblurring, joint)] == [
    (0, 600_000),
    (600_000, 1_600_000),
  ]
  assert [term.name for term in deblurring.loss] == ['lr']
  assert {term.name: term.weight for term in joint.loss} == {'hr': 1.0, 'gradient': 0.1}
  for phase, step, rates in (
    (deblurring, 0, (1e-4, 1e-4)),
    (deblurring, 75_000, (5.005e-5, 5.005e-5)),
    (deblurring, 450_000, (1e-4, 1e-4)),
    (joint, 600_000, (2e-4, 1e-5)),
    (joint, 849_999, (1e-7, 1e-7)),
    (joint, 850_000, (1e-4, 5e-6)),
    (joint, 1_350_000, (1e-4, 5e-6)),
  ):
    nlrn, deblur = (phase.learning_rates[f'learning_rate{name}'] for name in ('', '/deblur'))
    assert (float(nlrn(step)), float(deblur(step))) == pytest.approx(rates, rel=1e-4), step
  assert [phase.schedule.periods for phase in load('cnlrn:paper').phases.values()] == [1, 1]
  [alone] = load('cnlrn:no_deblurring').phases.values()
  assert not alone.module_learning_rates


@pytest.mark.parametrize('name', CONFIGS_WITH_VARIANTS)
def test_unknown_variants_are_refused(name):
  with pytest.raises(UserError, match="'fast'"):
    load(f'{name}:fast')


def test_the_synthesis_of_the_photos_config_is_one_of_every_option():
  options = load('gfn_photos').data.motion_blur.camera.to_dict()
  del options['share']
  assert MotionBlur(**options).translation == options['translation']
  assert options.keys() == {field.name for field in dataclasses.fields(MotionBlur)}


def test_the_released_weights_fit_the_configs_that_start_from_them():
  for name in ('gfn_photos:small_finetune', 'gfn_open'):
    model = create_model(**load(name).model)
    released, _ = load_pretrained('gfn')
    assert model.clone(dtype='float32') == released
