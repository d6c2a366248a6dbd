"""HAN (Niu et al., ECCV 2020): RCAN with attention to its layers, channels and positions.

lr_blur --> - mean --> conv --+--> residual groups --> conv --> channel-spatial attention --+
|      |   |   |          |                                   |
|      +---+---+----------+--> layer attention --> conv ------+
|                                                             |
+---------------------(+)<--------------------------- conv <--+
|
hr <-- + mean <-- conv <-- pixel shuffles
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gfn_jax.layers.blocks import ModuleDef, torch_uniform_init
from gfn_jax.models.rcan import RCAN


class LayerAttention(nn.Module):
  """Layer attention module (the paper's Section 3.2), in float32.

  Adds to the features of each layer a mixture of the features of all layers. As in the authors'
  code, layers that correlate least get the largest weights.
  """

  @nn.compact
  def __call__(self, layers: Float[jax.Array, 'b h w n f']) -> Float[jax.Array, 'b h w n f']:
    """Map features of n layers to features of n layers."""
    gamma = self.param('gamma', nn.initializers.zeros, ())
    highest = jax.lax.Precision.HIGHEST  # the scores are sums over the image, and differ little
    x = layers.astype(jnp.float32)
    scores = jnp.einsum('bhwnf,bhwmf->bnm', x, x, precision=highest)
    weights = nn.softmax(-scores)
    mixture = jnp.einsum('bnm,bhwmf->bhwnf', weights, x, precision=highest)
    return (x + gamma * mixture).astype(layers.dtype)


class VolumeConv(nn.Module):
  """Convolution of 3x3x3 over height, width and channels, in float32.

  Parameters are those of `nn.Conv` with one feature for `[b, h, w, c, 1]`. For XLA's CPU backend,
  that convolution is hundreds of times slower than this sum of shifted arrays.
  """

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w c']) -> Float[jax.Array, 'b h w c']:
    """Map features to features."""
    init = torch_uniform_init(3**3)
    kernel = self.param('kernel', init, (3, 3, 3, 1, 1))
    bias = self.param('bias', init, (1,))
    _, h, w, c = x.shape
    padded = jnp.pad(x.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (1, 1)))
    y = jnp.broadcast_to(bias[0], x.shape)
    for i, j, k in np.ndindex(3, 3, 3):
      y = y + kernel[i, j, k, 0, 0] * padded[:, i : i + h, j : j + w, k : k + c]
    return y


class ChannelSpatialAttention(nn.Module):
  """Channel-spatial attention module (the paper's Section 3.3), in float32.

  Weighs each value by a score that depends on its neighbours in both directions and in the
  channels.
  """

  @nn.compact
  def __call__(self, x: Float[jax.Array, 'b h w f']) -> Float[jax.Array, 'b h w f']:
    """Map features to features."""
    gamma = self.param('gamma', nn.initializers.zeros, ())
    scores = nn.sigmoid(VolumeConv(name='conv')(x))
    return ((1 + gamma * scores) * x.astype(jnp.float32)).astype(x.dtype)


class HAN(RCAN):
  """Holistic attention network: enlarges 4x, 16,071,745 parameters by default; it has no `lr`.

  It is RCAN, with attention to the features of all groups at the end of its body. It restores an
  image whole, as both channels and layers are weighed by sums over the image. The factors of the
  two attention modules start at 0, as the authors'.

  Attributes:
    features: as for `RCAN`, like all other options.
    dtype: type of the computation, such as 'bfloat16', but for the two attention modules.
      Parameters and outputs are float32.
  """

  def body(
    self, y: Float[jax.Array, 'b h w f'], conv: ModuleDef, conv3x3: ModuleDef
  ) -> Float[jax.Array, 'b h w f']:
    """Map features to those that are added to them: groups, a convolution, and attention."""
    b, h, w, f = y.shape
    layers = self.layers(y, conv, conv3x3)
    newest_first = jnp.stack(layers[::-1], axis=3)  # [B, h, w, N, F]
    z = LayerAttention(name='layer_attention')(newest_first).reshape(b, h, w, -1)
    z = conv3x3(f, name='layer_conv')(z)  # [B, h, w, F]
    y = ChannelSpatialAttention(name='channel_spatial_attention')(layers[-1])
    return conv3x3(f, name='fuse')(jnp.concatenate([y, z], axis=-1))
