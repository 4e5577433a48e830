import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
from mmaction.evaluation import AccMetric
from mmaction.registry import METRICS
from mmaction.structures import ActionDataSample
from mmengine.evaluator import Evaluator

from mmvideoiq.evaluation.metrics import ComputeCostMetric

ACTIONS = [dict(bits=32), dict(bits=4), dict(skip=1)]
CLIPS = [[0, 1, 2, 2], [1, 1, 2, 2], [2, 2, 2, 0], [1, 2, 1, 2], [0, 0, 0, 0]]


def sample(index):
    """Clip ``index``: mean_cost = index, gflops = 10 * index, bitops = 100 * index."""
    clip = ActionDataSample(metainfo=dict(filename=f"{index}.mp4", frame_inds=np.arange(4) * index))
    clip.set_gt_label(index % 2).set_pred_label(torch.tensor([1]))
    clip.set_pred_score(torch.tensor([0.25, 0.75]))
    clip.policy_actions = torch.tensor(CLIPS[index])
    clip.policy_probs = torch.nn.functional.one_hot(clip.policy_actions, 3).float()
    clip.cost = dict(mean_cost=float(index), gflops=10.0 * index, bitops=100.0 * index)
    return clip


def evaluate(metric, indices=range(5), batch=2, size=None):
    evaluator = Evaluator(metric)
    indices = list(indices)
    for start in range(0, len(indices), batch):
        evaluator.process([sample(i) for i in indices[start : start + batch]], None)
    return evaluator.evaluate(size or len(indices))


EXPECTED = {
    "cost/mean_cost": 2.0,
    "cost/gflops": 20.0,
    "cost/bitops": 200.0,
    "cost/usage_32": 6 / 20,
    "cost/usage_4": 5 / 20,
    "cost/usage_skip": 9 / 20,
}


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_means_by_hand_whatever_the_batches(batch):
    metric = METRICS.build(dict(type="ComputeCostMetric", actions=ACTIONS, _scope_="mmaction"))
    assert evaluate(metric, batch=batch) == pytest.approx(EXPECTED, rel=1e-12)


def test_padded_samples_are_dropped():
    assert evaluate(ComputeCostMetric(actions=ACTIONS), [0, 1, 2, 3, 4, 0], size=5) == pytest.approx(EXPECTED)


def test_further_costs_are_passed_on():
    metric = ComputeCostMetric(actions=ACTIONS, prefix="x")
    for peak in (3.0, 5.0, 4.0):
        clip = sample(0)
        clip.cost |= dict(weight_bytes=7.0, peak_activation_bytes=peak)
        metric.process(None, [clip.to_dict()])
    metrics = metric.evaluate(3)
    assert (metrics["x/weight_bytes"], metrics["x/peak_activation_bytes"]) == (7.0, 5.0)


def test_trace(tmp_path):
    path = tmp_path / "new" / "trace.json"
    evaluate(ComputeCostMetric(actions=ACTIONS, trace_file=str(path)))
    trace = json.loads(path.read_text())
    assert [row["filename"] for row in trace] == [f"{i}.mp4" for i in range(5)]
    assert trace[3] == dict(
        filename="3.mp4",
        frame_inds=[0, 3, 6, 9],
        actions=[1, 2, 1, 2],
        probs=[[0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]],
        pred_label=1,
        pred_score=0.75,
        gt_label=1,
    )
    assert os.listdir(path.parent) == ["trace.json"]


def test_trace_without_metainfo_and_with_many_labels(tmp_path):
    path = tmp_path / "trace.json"
    clip = ActionDataSample(policy_actions=np.array([0, 2]), cost=sample(1).cost)
    clip.set_gt_label(torch.tensor([1, 0, 1]))
    metric = ComputeCostMetric(actions=ACTIONS, trace_file=str(path))
    metric.process(None, [clip.to_dict()])
    metric.evaluate(1)
    missing = dict.fromkeys(("filename", "frame_inds", "probs", "pred_label", "pred_score"))
    assert json.loads(path.read_text()) == [dict(missing, actions=[0, 2], gt_label=[1, 0, 1])]


def test_a_failed_write_keeps_the_old_trace(tmp_path, monkeypatch):
    path = tmp_path / "trace.json"
    path.write_text("[]")
    metric = ComputeCostMetric(actions=ACTIONS, trace_file=str(path))

    def fail(path, text, **_):
        path.write_bytes(b"[half")
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        evaluate(metric)
    assert path.read_text() == "[]"
    assert os.listdir(tmp_path) == ["trace.json"]


def run_rank(rank, folder):
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    metric = ComputeCostMetric(actions=ACTIONS, trace_file=f"{folder}/trace.json")
    metrics = evaluate(metric, [0, 2, 4] if rank == 0 else [1, 3, 0], size=5)  # rank 1 is padded by clip 0
    with open(f"{folder}/rank{rank}.json", "w") as file:
        json.dump(metrics, file)
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(rank, str(tmp_path))) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
        if rank.is_alive():
            rank.kill()
    assert [rank.exitcode for rank in ranks] == [0, 0]
    for rank in range(2):
        assert json.loads((tmp_path / f"rank{rank}.json").read_text()) == pytest.approx(EXPECTED)
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert [row["filename"] for row in trace] == [f"{i}.mp4" for i in range(5)]


@pytest.mark.parametrize("missing", ["policy_actions", "cost"])
def test_names_what_a_sample_lacks(missing):
    clip = sample(0).to_dict()
    del clip[missing]
    with pytest.raises(KeyError, match=f"lacks '{missing}'; ComputeCostMetric needs a recognizer"):
        ComputeCostMetric(actions=ACTIONS).process(None, [clip])


def test_names_a_missing_cost_and_a_foreign_action():
    clip = sample(0).to_dict()
    metric = ComputeCostMetric(actions=ACTIONS)
    with pytest.raises(KeyError, match="cost lacks bitops"):
        metric.process(None, [clip | dict(cost=dict(mean_cost=0.0, gflops=1.0))])
    with pytest.raises(ValueError, match=r"0\.\.2, got 3\.\.3"):
        metric.process(None, [clip | dict(policy_actions=torch.tensor([3]))])
    with pytest.raises(ValueError, match="got no clip"):
        metric.compute_metrics([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(actions=[dict(skip=1)]), "only skips"),
        (dict(actions=ACTIONS, collect_device="cuda"), "must be 'cpu' or 'gpu', got 'cuda'"),
        (dict(actions=ACTIONS, trace_file="trace.txt"), "must end with .json, got 'trace.txt'"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ComputeCostMetric(**arguments)


def average_precision(scores, positive):
    """Mean over the positives of the precision among all clips scored at least as high."""
    found = [positive[scores >= scores[i]].mean() for i in np.flatnonzero(positive)]
    return np.mean(found) if found else None


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
@pytest.mark.parametrize("seed", range(3))
def test_the_hosts_map_is_the_mean_over_classes_with_positives(seed):
    random = np.random.default_rng(seed)
    scores = random.integers(0, 6, (30, 5)) / 6  # with ties
    labels = (random.random((30, 5)) < 0.3).astype(np.int64)
    labels[:, 2] = 0  # a class without positives
    labels[labels.sum(1) == 0, 0] = 1
    evaluator = Evaluator(AccMetric(metric_list=("mean_average_precision",)))
    for score, label in zip(scores, labels, strict=True):
        clip = ActionDataSample().set_gt_label(torch.from_numpy(label))
        evaluator.process([clip.set_pred_score(torch.from_numpy(score))], None)
    found = evaluator.evaluate(30)["acc/mean_average_precision"]
    per_class = [average_precision(scores[:, k], labels[:, k]) for k in range(5)]
    assert found == pytest.approx(np.mean([p for p in per_class if p is not None]), rel=1e-12)
    assert per_class[2] is None
