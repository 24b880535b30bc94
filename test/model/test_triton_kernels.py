"""The kernels for single sets, in Triton's interpreter on the CPU, and compiled for GPUs that are not here."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

IN_THE_INTERPRETER = """
import torch
from torch import nn
from fused_encoder_ros.model.encoder import ResNet18Encoder
from fused_encoder_ros.model.engines import triton_kernels
from fused_encoder_ros.model.engines.network import folded
from fused_encoder_ros.model.engines.resnet import FusedResNet

triton_kernels._multiprocessors = lambda device: 20  # else the sum is never split
torch.manual_seed(0)
guard = torch.inference_mode()
guard.__enter__()


def check(actual, expected, bound):
    assert actual.shape == expected.shape and actual.is_contiguous(memory_format=torch.channels_last), actual.shape
    error = float((actual.double() - expected).abs().max() / expected.abs().max())
    assert error < bound, error


splits = set()
for inputs, outputs, side, kernel, stride, batch in [
    (9, 64, 11, 7, 2, 1),  # as conv1: the number of inputs is no multiple of a block's
    (64, 64, 5, 3, 1, 1),
    (64, 128, 7, 3, 2, 2),
    (64, 128, 7, 1, 2, 1),
    (256, 64, 3, 3, 1, 1),
]:
    for dtype, bound in [(torch.float32, 1e-6), (torch.float16, 2e-3)]:  # the interpreter multiplies bfloat16 as integers
        plain = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2).to(dtype)
        own = triton_kernels.TritonConvolution(plain)
        images = torch.randn(batch, inputs, side, side).to(dtype).to(memory_format=torch.channels_last)
        exact = plain.double()(images.double())
        residual = torch.randn(exact.shape).to(dtype).to(memory_format=torch.channels_last)
        check(own(images), exact.relu(), bound)
        check(own(images, relu=False), exact, bound)
        answers = [own(images, residual) for _ in range(2)]  # the counters stand at zero again
        check(answers[0], (exact + residual.double()).relu(), bound)
        assert torch.equal(*answers)
        pixels = batch * exact.shape[2] * exact.shape[3]
        splits.add(triton_kernels._plan(pixels, outputs, own.weight.shape[0], dtype, 20).split)
        images[0, 0, 0, 0] = float('inf')
        assert not own(images).isfinite().all()
        images[0, 0, 0, 0] = float('nan')
        assert own(images).isnan().any()
assert 1 in splits and max(splits) > 8, splits

for side in (8, 9):
    images = torch.randn(2, 64, side, side).to(memory_format=torch.channels_last)
    assert torch.equal(triton_kernels.triton_max_pool(images), nn.MaxPool2d(3, 2, 1)(images))
    images[0, 0, 0, 0] = float('nan')
    assert triton_kernels.triton_max_pool(images)[0, 0, 0, 0].isnan()

encoder = ResNet18Encoder(in_channels=6).eval()
encoder.resnet[6] = encoder.resnet[7] = nn.Sequential()  # half of the layers have all kinds of blocks
for module in encoder.modules():
    if isinstance(module, nn.BatchNorm2d):
        module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
fused = FusedResNet(folded(encoder).resnet, triton_kernels.TritonConvolution, triton_kernels.triton_max_pool)
images = torch.rand(1, 9, 8, 8)[:, 2:8]  # a part of a stack: not dense
check(fused(images), encoder.resnet.double()(images.double()), 1e-6)
"""

COMPILED = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from fused_encoder_ros.model.engines.triton_kernels import _convolve, _plan
import torch

for name, dtype in (('fp32', torch.float32), ('fp16', torch.float16), ('bf16', torch.bfloat16)):
    plan = _plan(36, 256, 2304, dtype, 132)
    constants = dict(PIXELS=36, H=6, W=6, HO=6, WO=6, C=256, OUTPUTS=256, SIDE=3, STRIDE=1, PADDING=1, RELU=True, ADD=True)
    constants |= dict(BLOCK_M=plan.block_m, BLOCK_N=plan.block_n, BLOCK_K=plan.block_k)
    signature = {key: 'constexpr' for key in constants} | {key: f'*{name}' for key in ('x', 'weight', 'residual', 'y')}
    signature |= {'bias': '*fp32', 'parts': '*fp32', 'arrived': '*i32', 'split': 'i32', 'k_of_a_part': 'i32'}
    source = ASTSource(_convolve, signature, {(_convolve.arg_names.index(key),): value for key, value in constants.items()})
    for capability in (80, 87, 90, 120):
        kernel = compile(source, target=GPUTarget('cuda', capability, 32), options={'num_warps': plan.warps})
        code = kernel.asm['ptx']
        assert 'tf32' not in code and ('mma' in code) == (name != 'fp32'), (name, capability)
"""


@pytest.mark.parametrize('script', [IN_THE_INTERPRETER, COMPILED], ids=['equal', 'compiles'])
def test_kernels(script: str, tmp_path: object) -> None:
    environment = os.environ | {'TRITON_CACHE_DIR': str(tmp_path)}
    if script == IN_THE_INTERPRETER:
        environment['TRITON_INTERPRET'] = '1'
    done = subprocess.run([sys.executable, '-c', script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
