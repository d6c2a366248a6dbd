import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gfn_jax.system import cpu_bfloat16

OPTION = 'xla_cpu_experimental_onednn_custom_call'


@pytest.fixture
def processor(monkeypatch, tmp_path):
  """Sets what /proc/cpuinfo says; None: there is no such file."""

  def set_flags(text):
    path = tmp_path / 'cpuinfo'
    path.unlink(missing_ok=True)
    if text is not None:
      path.write_text(f'processor : 0\n{text}\nbugs : none\n')
    monkeypatch.setattr(cpu_bfloat16, '_CPUINFO', path)
    cpu_bfloat16.has_bfloat16.cache_clear()

  yield set_flags
  cpu_bfloat16.has_bfloat16.cache_clear()


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('flags : fpu avx512_bf16 sse', True),
    ('flags : amx_bf16', True),
    ('flags : fpu avx512f', False),
    ('Features : bf16', False),
    (None, False),
  ],
)
def test_processors(processor, text, expected):
  processor(text)
  assert cpu_bfloat16.has_bfloat16() == expected


def test_the_option_is_for_bfloat16_on_cpus_that_have_it(processor, monkeypatch):
  processor('flags : avx512_bf16')
  monkeypatch.setattr(jax, '__version_info__', (0, 12, 0))
  assert cpu_bfloat16.compiler_options('bfloat16') == {OPTION: True}
  assert cpu_bfloat16.compiler_options('float32') is None
  monkeypatch.setattr(jax, '__version_info__', (0, 10, 2))
  assert cpu_bfloat16.compiler_options('bfloat16') is None
  monkeypatch.setattr(jax, '__version_info__', (0, 12, 0))
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  assert cpu_bfloat16.compiler_options(jnp.bfloat16) is None
  monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu')
  processor('flags : sse')
  assert cpu_bfloat16.compiler_options('bfloat16') is None


def test_an_option_that_xla_does_not_know_is_left_out(processor, monkeypatch, capsys):
  processor('flags : avx512_bf16')
  monkeypatch.setattr(jax, '__version_info__', (0, 12, 0))
  monkeypatch.setattr(cpu_bfloat16, '_OPTION', 'xla_cpu_no_such_option')
  cpu_bfloat16._has_option.cache_clear()
  assert cpu_bfloat16.compiler_options('bfloat16') is None
  assert cpu_bfloat16.compiler_options('bfloat16') is None
  lines = capsys.readouterr().err.splitlines()
  cpu_bfloat16._has_option.cache_clear()
  assert len(lines) == 1
  assert lines[0].startswith('bfloat16 is computed without oneDNN, which is slower: ')


def test_a_convolution_with_the_option_equals_one_without():
  options = cpu_bfloat16.compiler_options('bfloat16')
  if options is None:
    pytest.skip('needs JAX 0.12 and a processor with bfloat16')
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (2, 16, 16, 32), jnp.bfloat16)
  kernel = jax.random.normal(keys[1], (3, 3, 32, 32), jnp.bfloat16) / 17

  def conv(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )

  fast = cpu_bfloat16.without_cache_warning(jax.jit(conv, compiler_options=options))(x, kernel)
  expected = conv(x.astype(jnp.float32), kernel.astype(jnp.float32))
  np.testing.assert_allclose(np.asarray(fast, np.float32), expected, rtol=2**-8, atol=2**-8)
