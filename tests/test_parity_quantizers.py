"""Our quantizers against numbers computed with the authors' release, forward and backward."""

import numpy as np
import pytest
import torch

from mmvideoiq.quant.functional import dorefa_weight, pact

TOLERANCE = dict(rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def numbers(shared_dir):
    with np.load(shared_dir / "parity" / "quantizers.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize(
    ("parent", "bits"), [(32, 32), (32, 8), (32, 4), (32, 2), (8, 8), (8, 4), (8, 2), (4, 4), (4, 2)]
)
def test_weights(numbers, parent, bits):
    weight = numbers["weight"].clone().requires_grad_()
    quantized = dorefa_weight(weight, bits, parent)
    quantized.backward(numbers["weight_upstream_grad"])
    torch.testing.assert_close(quantized.detach(), numbers[f"weight_{parent}to{bits}"], **TOLERANCE)
    torch.testing.assert_close(weight.grad, numbers[f"weight_grad_{parent}to{bits}"], **TOLERANCE)


@pytest.mark.parametrize("clip", ["0.8", "2.0"])
@pytest.mark.parametrize("bits", [32, 8, 4, 2])
def test_activations(numbers, bits, clip):
    x = numbers["act"].clone().requires_grad_()
    alpha = torch.tensor([float(clip)], requires_grad=True)
    quantized = pact(x, alpha, bits)
    quantized.backward(numbers["act_upstream_grad"])
    case = f"{bits}bit_alpha{clip}"
    torch.testing.assert_close(quantized.detach(), numbers[f"act_{case}"], **TOLERANCE)
    torch.testing.assert_close(x.grad, numbers[f"act_grad_{case}"], **TOLERANCE)
    torch.testing.assert_close(alpha.grad, numbers[f"alpha_grad_{case}"], **TOLERANCE)
