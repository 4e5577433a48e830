"""What is kept of a test loop for a report."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample

from mmvideoiq.evaluation.clip_records import ClipRecords, class_names, indices_of, network_frames


def sample(label, score, actions=None, **meta):
    found = ActionDataSample(metainfo=meta)
    found.set_gt_label(label)
    found.set_pred_label(int(np.argmax(score)))
    found.set_pred_score(torch.tensor(score))
    if actions is not None:
        found.set_field(torch.tensor(actions), "policy_actions")
    return found


def test_an_entry_for_each_clip_in_order():
    records, runner = ClipRecords(), SimpleNamespace(test_dataloader=SimpleNamespace(dataset=range(3)))
    for _ in range(2):  # a second test begins anew
        records.before_test_epoch(runner)
        records.after_test_iter(runner, 0, outputs=[sample(0, [0.9, 0.1], [1, 0], filename="a.mp4")])
        outputs = [sample(1, [0.75, 0.25], [[1], [0]]), sample([0, 1], [0.25, 0.75])]
        records.after_test_iter(runner, 1, outputs=outputs)
        records.after_test_epoch(runner, {})
    first, second, third = records.clips
    assert first["filename"] == "a.mp4" and first["actions"] == [1, 0]
    assert (first["gt_label"], first["pred_label"]) == (0, 0) and first["pred_score"] == pytest.approx(0.9)
    assert second["actions"] is None and second["filename"] is None and second["pred_label"] == 0
    assert third["gt_label"] == [0, 1] and third["actions"] is None


def test_names_of_classes(tmp_path):
    listed = SimpleNamespace(metainfo=dict(classes=("a", "b")), ann_file="x")
    assert class_names(listed) == ["a", "b"]
    nameless = SimpleNamespace(metainfo={}, ann_file=str(tmp_path / "test.txt"))
    assert class_names(nameless) == []
    (tmp_path / "classes.txt").write_text("c\nd\n")
    assert class_names(nameless) == ["c", "d"]
    assert class_names(SimpleNamespace(metainfo=dict(classes="gone.txt"))) == []


def test_a_shuffled_list_is_found_by_its_files():
    class Listed(list):
        get_data_info = list.__getitem__

    dataset = Listed(dict(filename=name) for name in ("a.mp4", "b.mp4", "c.mp4", "b.mp4"))
    shuffled = [dict(filename=name) for name in ("c.mp4", "a.mp4", "b.mp4", "b.mp4")]
    assert indices_of(dataset, shuffled) == [2, 0, 1, 1]
    nameless = [dict(filename=None), dict(filename="elsewhere.mp4")]
    assert indices_of(dataset, nameless) == indices_of([0, 1], shuffled[:2]) == [0, 1]


def test_frames_are_those_of_the_network():
    frames = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    found = network_frames([dict(inputs=frames)], 0)
    assert found.shape == (2, 4, 5, 3) and found[1, 2, 3, 0] == frames[1, 0, 2, 3]
    views = torch.stack([frames, 100 + frames]).transpose(1, 2)  # (V, C, T, H, W)
    assert np.array_equal(network_frames([dict(inputs=views)], 0)[2:], 100 + found)


@pytest.mark.parametrize("inputs", [torch.zeros(2, 3, 4, 5), torch.zeros(2, 17, 3, dtype=torch.uint8), None])
def test_other_inputs_have_no_frames(inputs):
    assert network_frames([dict(inputs=inputs)], 0) is None


def test_a_clip_that_cannot_be_read_has_no_frames():
    class Broken:
        def __getitem__(self, index):
            raise RuntimeError(f"{index} is damaged")

    assert network_frames(Broken(), 0) is None
