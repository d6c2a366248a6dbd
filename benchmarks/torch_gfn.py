"""GFN in PyTorch, for the speed benchmarks. Its tensors have the authors' names.

    python benchmarks/torch_gfn.py FOLDER    # as benchmarks/torch_peer.py starts it

requires PyTorch and NumPy alone, so that it runs where JAX and gfn_jax are not installed. It reads
requests from standard input, a JSON list in each line, and answers each with a line of JSON:

    ["load", device, options, "parameters.npz"]       names of the device's variants, or an error
    ["restore", "x.npz", "result.npz"]                images, in float32 on the CPU
    ["make_inference", variant, "inputs.npz"]         a workload of a variant
    ["make_train", variant, "inputs.npz", rate]       the same
    ["call", variant]                                 seconds, processor time and loss of a call
"""

import copy
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class Variant:
  """Settings of PyTorch.

  Attributes:
    channels_last: True to store images and weights with channels last.
    bfloat16: True to use autocast to bfloat16.
    tf32: True to use TF32 in matrix products and convolutions; GPU only.
    compiled: True to use `torch.compile`.
  """

  channels_last: bool = False
  bfloat16: bool = False
  tf32: bool = False
  compiled: bool = False


VARIANTS = {
  'cpu': {
    'torch': Variant(),
    'torch channels_last': Variant(channels_last=True),
    'torch channels_last bfloat16': Variant(channels_last=True, bfloat16=True),
  },
  'cuda': {
    'torch': Variant(),
    'torch channels_last tf32': Variant(channels_last=True, tf32=True),
    'torch channels_last bfloat16': Variant(channels_last=True, bfloat16=True, tf32=True),
    'torch channels_last bfloat16 compiled': Variant(True, True, True, True),
  },
}
"""Settings to time, by device."""


class GFN(nn.Module):
  """The gated network of `gfn_jax.models.gfn.GFN`, for sides that are multiples of 4.

  Maps `[B, 3, h, w]` to `hr` `[B, 3, 4h, 4w]` and `lr` `[B, 3, h, w]`.
  """

  def __init__(
    self,
    features: int = 64,
    deblur_blocks: int = 6,
    sr_blocks: int = 8,
    reconstruction_blocks: int = 8,
  ):
    super().__init__()
    # The names, also their spelling and the lists of one, are the authors'.
    self.deblurMoudle = nn.ModuleList([_Deblur(features, deblur_blocks)])
    self.srMoudle = nn.ModuleList([_SRFeature(features, sr_blocks)])
    self.geteMoudle = nn.ModuleList([_Gate(features)])
    self.reconstructMoudle = nn.ModuleList([_Reconstruction(features, reconstruction_blocks)])

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Deblur images and enlarge them 4x."""
    f_deblur, lr = self.deblurMoudle[0](x)
    f_sr = self.srMoudle[0](x)
    g = self.geteMoudle[0](torch.cat([f_deblur, x, f_sr], dim=1))
    return self.reconstructMoudle[0](g * f_deblur + f_sr), lr


class _ResBlock(nn.Module):
  def __init__(self, features: int, slope: float):
    super().__init__()
    self.layers = nn.Sequential(
      _conv(features, features), nn.LeakyReLU(slope, inplace=True), _conv(features, features)
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return x + self.layers(x)


class _Deblur(nn.Module):
  def __init__(self, features: int, blocks: int):
    super().__init__()
    f = features
    self.conv1 = _conv(3, f, 7)
    self.resBlock1 = _blocks(f, blocks, 0.0)
    self.conv2 = nn.Sequential(_conv(f, 2 * f, stride=2), nn.ReLU(inplace=True))
    self.resBlock2 = _blocks(2 * f, blocks, 0.0)
    self.conv3 = nn.Sequential(_conv(2 * f, 4 * f, stride=2), nn.ReLU(inplace=True))
    self.resBlock3 = _blocks(4 * f, blocks, 0.0)
    self.deconv1 = nn.Sequential(nn.ConvTranspose2d(4 * f, 2 * f, 4, 2, 1), nn.ReLU(inplace=True))
    self.deconv2 = nn.Sequential(
      nn.ConvTranspose2d(2 * f, f, 4, 2, 1), nn.ReLU(inplace=True), _conv(f, f, 7)
    )
    self.convout = nn.Sequential(_conv(f, f), nn.ReLU(inplace=True), _conv(f, 3))

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    c1 = functional.leaky_relu(self.conv1(x), 0.2)
    y = self.resBlock1(c1) + c1
    y = self.conv2(y)
    y = self.resBlock2(y) + y
    y = self.conv3(y)
    y = self.resBlock3(y) + y
    f_deblur = self.deconv2(self.deconv1(y))
    return f_deblur, self.convout(f_deblur + c1)


class _SRFeature(nn.Module):
  def __init__(self, features: int, blocks: int):
    super().__init__()
    self.conv1 = _conv(3, features, 7)
    self.resBlock = _blocks(features, blocks, 0.2)
    self.conv2 = _conv(features, features)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    s1 = functional.leaky_relu(self.conv1(x), 0.2)
    return self.conv2(self.resBlock(s1)) + s1


class _Gate(nn.Module):
  def __init__(self, features: int):
    super().__init__()
    self.conv1 = _conv(2 * features + 3, features)
    self.conv2 = _conv(features, features, 1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return self.conv2(functional.leaky_relu(self.conv1(x), 0.2))


class _Reconstruction(nn.Module):
  def __init__(self, features: int, blocks: int):
    super().__init__()
    self.resBlock = _blocks(features, blocks, 0.0)
    self.conv1 = _conv(features, 4 * features)
    self.conv2 = _conv(features, 4 * features)
    self.conv3 = _conv(features, features)
    self.conv4 = _conv(features, 3)

  def forward(self, y: torch.Tensor) -> torch.Tensor:
    y = functional.leaky_relu(functional.pixel_shuffle(self.conv1(self.resBlock(y)), 2), 0.1)
    y = functional.leaky_relu(functional.pixel_shuffle(self.conv2(y), 2), 0.2)
    return self.conv4(functional.leaky_relu(self.conv3(y), 0.2))


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
  return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def _blocks(features: int, number: int, slope: float) -> nn.Sequential:
  return nn.Sequential(*(_ResBlock(features, slope) for _ in range(number)))


def restore(network: GFN, x: np.ndarray) -> dict[str, np.ndarray]:
  """Return `hr` and `lr` of images `[B, h, w, 3]`, in float32 on the CPU."""
  with torch.inference_mode():
    hr, lr = network.cpu()(torch.from_numpy(x.transpose(0, 3, 1, 2)))
  return {'hr': hr.numpy().transpose(0, 2, 3, 1), 'lr': lr.numpy().transpose(0, 2, 3, 1)}


def inference_workload(
  network: GFN, variant: Variant, device: str, x: np.ndarray
) -> Callable[[], Any]:
  """Return a workload that restores images `[B, h, w, 3]` from and to device memory."""
  net, place = _prepare(network, variant, device)
  x = place(x)
  forward = torch.compile(net) if variant.compiled else net

  @torch.inference_mode()
  def workload():
    with _settings(variant, x.device.type):
      forward(x)
    _synchronize(x)

  return workload


def train_workload(
  network: GFN,
  variant: Variant,
  device: str,
  batch: Mapping[str, np.ndarray],
  learning_rate: float,
) -> Callable[[], Any]:
  """Return a workload that takes one step of Adam on GFN's loss with `lr_weight=0.5`."""
  net, place = _prepare(network, variant, device)
  batch = {key: place(image) for key, image in batch.items()}
  on_gpu = batch['hr'].device.type == 'cuda'
  optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate, fused=on_gpu)
  forward = torch.compile(net) if variant.compiled else net

  def workload():
    with _settings(variant, batch['hr'].device.type):
      hr, lr = forward(batch['lr_blur'])
    mse = functional.mse_loss
    loss = mse(hr.float(), batch['hr']) + 0.5 * mse(lr.float(), batch['lr'])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    _synchronize(loss)
    return loss.detach()

  return workload


def _prepare(
  network: GFN, variant: Variant, device: str
) -> tuple[GFN, Callable[[np.ndarray], torch.Tensor]]:
  """Return the network in the format of a variant, and a function that converts images alike."""
  memory_format = torch.channels_last if variant.channels_last else torch.contiguous_format

  def place(x: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    return x.to(device, memory_format=memory_format)

  return copy.deepcopy(network).to(device, memory_format=memory_format), place


def _settings(variant: Variant, device_type: str) -> torch.autocast:
  torch.backends.cudnn.benchmark = True
  torch.backends.cudnn.allow_tf32 = variant.tf32
  torch.backends.cuda.matmul.allow_tf32 = variant.tf32
  return torch.autocast(device_type, torch.bfloat16, enabled=variant.bfloat16)


def _synchronize(x: torch.Tensor) -> None:
  if x.device.type == 'cuda':
    torch.cuda.synchronize()


class _Server:
  """Answers the requests of `benchmarks.torch_peer`, with files in one folder."""

  def __init__(self, folder: str):
    self.folder = folder
    self.workloads = {}

  def answer(self, request: str, *arguments: Any) -> Any:
    """Return the answer to a request of the module's docstring."""
    requests = (self.load, self.restore, self.make_inference, self.make_train, self.call)
    return {method.__name__: method for method in requests}[request](*arguments)

  def load(self, device: str, options: dict[str, int], path: str) -> list[str] | str:
    """Load the network; return the names of its variants, or an error."""
    if device == 'cuda' and not torch.cuda.is_available():
      return 'PyTorch finds no GPU'
    self.device, self.network = device, GFN(**options)
    state = {key: torch.from_numpy(value) for key, value in self._read(path).items()}
    self.network.load_state_dict(state, strict=True)
    return list(VARIANTS[device])

  def restore(self, path: str, result: str) -> None:
    """Restore images to a file."""
    np.savez(os.path.join(self.folder, result), **restore(self.network, self._read(path)['x']))

  def make_inference(self, variant: str, path: str) -> None:
    """Keep a workload of inference."""
    x = self._read(path)['x']
    self.workloads[variant] = inference_workload(
      self.network, VARIANTS[self.device][variant], self.device, x
    )

  def make_train(self, variant: str, path: str, learning_rate: float) -> None:
    """Keep a workload of training."""
    self.workloads[variant] = train_workload(
      self.network, VARIANTS[self.device][variant], self.device, self._read(path), learning_rate
    )

  def call(self, variant: str) -> dict[str, float | None]:
    """Call a workload once."""
    wall, cpu = time.perf_counter(), time.process_time()
    loss = self.workloads[variant]()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {'wall': wall, 'cpu': cpu, 'result': None if loss is None else float(loss)}

  def _read(self, path: str) -> dict[str, np.ndarray]:
    with np.load(os.path.join(self.folder, path), allow_pickle=False) as arrays:
      return dict(arrays)


def main() -> None:
  """Answer requests until standard input ends."""
  server = _Server(sys.argv[1])
  for line in sys.stdin:
    print(json.dumps(server.answer(*json.loads(line))), flush=True)


if __name__ == '__main__':
  main()
