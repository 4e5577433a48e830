"""The paper's network computed straight from a state dict in the release's layout: slow, plain, no module of ours.

The oracle of the parity tests; it is itself held to the parity fixture. Formulas: arXiv:2108.10394.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


def quantize_weight(w: Tensor, top: int, bits: int) -> Tensor:
    steps = float(np.float32(2**top - 1))  # 2**32 at 32 bits
    t = w.tanh()
    u = t / (2 * t.abs().max()) + 0.5
    code = torch.round(steps * u)
    value = torch.floor(code / 2.0 ** (top - bits)) * 2.0 ** (top - bits) / steps
    aligned = value * (code / steps).mean() / value.mean()
    return 2 * aligned - 1


def quantize_activation(x: Tensor, bits: int, alpha: Tensor) -> Tensor:
    steps = 2.0**bits - 1
    return torch.round(torch.minimum(x.clamp(min=0), alpha) * (steps / alpha)) * (alpha / steps)


def norm(s: State, name: str, x: Tensor) -> Tensor:
    stats = (s[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *stats)


def residual_stages(s: State, x: Tensor, bits: int | None, top: int) -> Tensor:
    """The four stages and the average pool; ``bits=None``: the teacher's plain ones. (n, 64, h, w) -> (n, D)."""
    suffix = "_32fp" if bits is None else ""
    for stage in (1, 2, 3, 4):
        block = 0
        while f"backbone.layer{stage}{suffix}.{block}.conv1.weight" in s:
            name = f"backbone.layer{stage}{suffix}.{block}"
            convs = 3 if f"{name}.conv3.weight" in s else 2
            stride = 2 if stage > 1 and block == 0 else 1

            def conv(x: Tensor, weight: str, stride: int) -> Tensor:
                w = s[weight] if bits is None else quantize_weight(s[weight], top, bits)
                return F.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)

            def clip(x: Tensor, i: int, name: str = name) -> Tensor:
                return x if bits is None else quantize_activation(x, bits, s[f"{name}.q_alpha{i}_{bits}"])

            x = clip(x, 1)
            out = x
            for i in range(1, convs + 1):
                out = clip(out, i) if i > 1 else out
                out = conv(out, f"{name}.conv{i}.weight", stride if i == convs - 1 else 1)
                out = norm(s, f"{name}.bn{i}" + ("" if bits is None else f"_{bits}"), out)
                out = out.relu() if i < convs else out
            shortcut = f"{name}.downsample_{32 if bits is None else bits}"
            if f"{shortcut}.0.weight" in s:
                x = norm(s, f"{shortcut}.1", conv(x, f"{shortcut}.0.weight", stride))
            x = (out + x).relu()
            block += 1
    return x.mean((2, 3))


def features(s: State, frames: Tensor, bits: int | None, top: int) -> Tensor:
    """(n, 3, S, S) -> (n, D)."""
    suffix = "_32fp" if bits is None else ""
    x = F.conv2d(frames, s[f"backbone.conv1{suffix}.weight"], stride=2, padding=3)
    x = F.max_pool2d(norm(s, f"backbone.bn1{suffix}", x).relu(), 3, 2, 1)
    return residual_stages(s, x, bits, top)


def policy_features(s: State, frames: Tensor) -> Tensor:
    """Plain float but for the weights of the first and the last convolution. (n, 3, S, S) -> (n, 1280)."""
    x = F.interpolate(frames, size=(84, 84), mode="bilinear", align_corners=False)
    stem, last = (quantize_weight(s[f"policy_net.{k}.weight"], 32, 32) for k in ("features.0.0", "conv.0"))
    x = F.conv2d(x, stem, stride=2, padding=1)
    x = F.relu6(norm(s, "policy_net.features.0.1", x))
    for feature in range(1, 18):
        name, y = f"policy_net.features.{feature}.conv", x
        indices = [i for i in (0, 3, 6) if f"{name}.{i}.weight" in s]
        for i in indices:
            w = s[f"{name}.{i}.weight"]
            depthwise = w.shape[2] == 3
            stride = 2 if depthwise and feature in (2, 4, 7, 14) else 1
            y = F.conv2d(y, w, stride=stride, padding=w.shape[2] // 2, groups=w.shape[0] if depthwise else 1)
            y = norm(s, f"{name}.{i + 1}", y)
            y = y if i == indices[-1] else F.relu6(y)
        x = x + y if x.shape == y.shape else y
    return F.relu6(norm(s, "policy_net.conv.1", F.conv2d(x, last))).mean((2, 3))


def run_release(
    s: State, clips: Tensor, precisions: tuple[int, ...], skips: tuple[int, ...]
) -> dict[str, Tensor]:
    """Everything the fixture holds, for clips (N, T, 3, S, S). Action rows: precisions, then skips."""
    n, t = clips.shape[:2]
    frames, top = clips.flatten(0, 1), precisions[0]
    out = {}
    by_bits = torch.stack([features(s, frames, bits, top).view(n, t, -1) for bits in precisions], 2)
    for i, bits in enumerate(precisions):
        out[f"logits_{bits}bit"] = F.linear(by_bits[:, :, i].mean(1), s["fc.weight"], s["fc.bias"])
    if "backbone.fc_32fp.weight" in s:
        mean = features(s, frames, None, top).view(n, t, -1).mean(1)
        out["teacher_logits"] = F.linear(mean, s["backbone.fc_32fp.weight"], s["backbone.fc_32fp.bias"])
    seen = policy_features(s, frames).view(n, t, -1)
    cell = torch.nn.LSTMCell(seen.shape[-1], s["policy_net.rnn.weight_hh"].shape[1])
    cell.to(seen.dtype).load_state_dict(
        {k: s[f"policy_net.rnn.{k}"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    )
    decisions = torch.zeros(n, t, dtype=torch.long)
    log_probs = seen.new_zeros(n, t, s["policy_net.linear.weight"].shape[0])
    states = seen.new_zeros(n, t, cell.hidden_size)
    for clip in range(n):
        h = c = seen.new_zeros(1, cell.hidden_size)
        held = 0
        for frame in range(t):
            with torch.no_grad():
                new_h, c = cell(seen[clip, frame][None], (h, c))  # c moves on under a skip too
            if held:
                decisions[clip, frame] = decisions[clip, frame - 1]
                log_probs[clip, frame] = log_probs[clip, frame - 1]
                held -= 1
            else:
                h = new_h
                logits = F.linear(h, s["policy_net.linear.weight"], s["policy_net.linear.bias"])
                log_probs[clip, frame] = logits.log_softmax(-1)[0]
                decisions[clip, frame] = logits.argmax()
                lengths = [1] * len(precisions) + list(skips)
                held = lengths[decisions[clip, frame]] - 1
            states[clip, frame] = new_h[0]
    if "policy_net.fc.weight" in s:
        out["policy_logits"] = F.linear(states.mean(1), s["policy_net.fc.weight"], s["policy_net.fc.bias"])
    chosen = F.one_hot(decisions, log_probs.shape[-1])[..., : len(precisions)].to(
        by_bits.dtype
    )  # (N, T, precisions)
    mixed = (by_bits * chosen[..., None]).sum((1, 2)) / chosen.sum((1, 2)).clamp(min=1)[:, None]
    return out | {
        "logits": F.linear(mixed, s["fc.weight"], s["fc.bias"]),
        "decisions": decisions,
        "log_probs": log_probs,
    }
