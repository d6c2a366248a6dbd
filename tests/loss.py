"""Losses of the papers, from their weights."""

from gfn_jax.training import losses


def restoration_loss(
  output,
  batch,
  lr_weight,
  hr_weight=1.0,
  hr='mse',
  lr='mse',
  edge_weight=0.0,
  gradient_weight=0.0,
  frames_weight=1.0,
  pair_difference='absolute',
  perceptual=None,
):
  """Return the loss and its terms."""
  frames = {'loss': 'frames', 'pair_difference': pair_difference}
  terms = {
    'hr': {'on': 'hr', 'loss': hr, 'weight': 1.0},
    'gradient': {'on': 'hr', 'loss': 'gradient', 'weight': gradient_weight},
    'lr': {'on': 'lr', 'loss': lr, 'weight': 1.0},
    'edge': {'on': 'lr', 'loss': 'edge', 'weight': edge_weight},
    'frames': {'on': 'frames', 'weight': frames_weight, **frames},
    'perceptual': {'on': 'frames', 'loss': 'perceptual', 'weight': frames_weight},
  }
  loss = losses.make_loss(terms, {'hr': hr_weight, 'lr': lr_weight}, perceptual)
  return losses.restoration_loss(output, batch, loss)
