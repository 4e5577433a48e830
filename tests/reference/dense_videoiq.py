"""VideoIQ at test time, slow and obvious: one clip and one frame at a time, every precision on every frame.

The oracle of the grouped, vectorized recognizer. Axes: T frames, A actions, K classes.
"""

import torch
from torch import Tensor, nn


def lstm_step(lstm: nn.Module, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM on one clip, gate by gate. x (D,), h and c (hidden,)."""
    weights = [p.detach() for p in lstm.parameters()]  # input, hidden, and their biases
    gates = weights[0] @ x + weights[2] + weights[1] @ h + weights[3]
    enter, forget, cell, leave = gates.chunk(4)
    c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(cell)
    return torch.sigmoid(leave) * torch.tanh(c), c


def choose(head: nn.Module, skip_lengths: tuple[int, ...], features: Tensor, noise: Tensor | None = None):
    """The policy head on one clip: actions [T], log-probabilities (T, A), mean LSTM output (hidden,).

    Under a skip of several frames nothing happens; without ``head.hold_cell`` the LSTM runs on, and then ``h`` is put
    back.

    Args:
        features: (T, D).
        noise: (T, A), added to the log-probabilities before the largest is taken; None adds nothing.
    """
    h = c = torch.zeros(head.fc_policy.in_features)
    actions: list[int] = []
    rows: list[Tensor] = []
    outputs: list[Tensor] = []
    to_hold = 0
    for t, feature in enumerate(features):
        if to_hold > 0:
            to_hold -= 1
            actions.append(actions[-1])
            rows.append(rows[-1])
            if head.hold_cell:
                outputs.append(outputs[-1])
            else:
                output, c = lstm_step(head.lstm, feature, h, c)
                outputs.append(output)
            continue
        h, c = lstm_step(head.lstm, feature, h, c)
        row = torch.log_softmax(head.fc_policy.weight @ h + head.fc_policy.bias, dim=0)
        scores = row if noise is None else row + noise[t]
        best = max(range(len(scores)), key=lambda a: float(scores[a]))
        actions.append(best)
        rows.append(row)
        outputs.append(h)
        to_hold = max(skip_lengths[best] - 1, 0)
    return actions, torch.stack(rows), torch.stack(outputs).mean(0)


def actions_of(model: nn.Module, clip: Tensor) -> list[int]:
    """Actions [T] that the recognizer takes for one clip (T, C, H, W), with a processed frame in every clip."""
    side = model.policy.input_size
    features = []
    for frame in clip:
        small = torch.nn.functional.interpolate(
            frame[None], size=(side, side), mode="bilinear", align_corners=False
        )
        features.append(model.policy.backbone(small)[0].mean(dim=(1, 2)))
    actions, log_probs, _ = choose(model.policy.head, model.actions.skip_lengths, torch.stack(features))
    is_skip = model.actions.skip_mask
    if model.all_skip == "likeliest" and all(is_skip[a] for a in actions):
        processed = [a for a in range(len(is_skip)) if not is_skip[a]]
        probs = log_probs.exp()
        frame = max(range(len(clip)), key=lambda t: sum(float(probs[t, a]) for a in processed))
        actions[frame] = max(processed, key=lambda a: float(probs[frame, a]))
    return actions


def recognize(model: nn.Module, clip: Tensor, actions: list[int] | None = None) -> tuple[Tensor, list[int]]:
    """Class logits (K,) and actions [T] of one clip (T, C, H, W)."""
    actions = actions_of(model, clip) if actions is None else actions
    summed, count = 0.0, 0
    for frame, action in zip(clip, actions, strict=True):
        dense = {}
        for index, choice in enumerate(model.actions):  # every precision on every frame
            if choice.separate:
                dense[index] = model.teacher.backbone(frame[None])[0].mean(dim=(1, 2))
            elif not choice.is_skip:
                dense[index] = model.backbone.forward_at(frame[None], choice.mode)[0].mean(dim=(1, 2))
        if action in dense:
            summed = summed + dense[action]
            count += 1
    mean = summed / count if count else torch.zeros(model.cls_head.in_channels)
    classifier = model.cls_head.fc_cls
    return classifier.weight @ mean + classifier.bias, actions
