"""Graphs: what they refuse, and that JSON gives them back."""

import json

import pytest

from mmvideoiq.deploy.bundle.graph import ATTRIBUTES, Graph, Grid, Node
from tests.deploy.toy_bundle import toy_parts

FRAMES = {"frames": (-1, 8, 8, 3)}


def relu(name: str, *inputs: str) -> Node:
    return Node(op="relu", name=name, inputs=inputs)


@pytest.mark.parametrize("part", ["recognition", "policy"])
def test_json_gives_the_same_graph_back(part):
    graph = toy_parts()["graphs"][part]
    text = json.dumps(graph.to_json())
    back = Graph.from_json(json.loads(text))
    assert back == graph and json.dumps(back.to_json()) == text
    assert [node.name for node in back] == [node.name for node in graph]


def test_what_comes_from_json_cannot_be_changed_by_accident():
    graph = toy_parts()["graphs"]["recognition"]
    back = Graph.from_json(json.loads(json.dumps(graph.to_json())))
    for node in back:
        assert not any(isinstance(value, list) for value in node.attrs.values())
    assert isinstance(back.inputs["frames"], tuple) and isinstance(back.outputs, tuple)


def test_the_order_of_keys_does_not_matter():
    graph = toy_parts()["graphs"]["policy"]
    assert Graph.from_json(json.loads(json.dumps(graph.to_json(), sort_keys=True))) == graph


def test_a_grid_of_each_precision():
    grids = {"8": Grid(0.5, 0, 255), "4": (0.25, -7, 7, 0.125)}
    node = Node(op="quantize", name="q", inputs=("frames",), attrs={"grids": grids})
    graph = Graph(inputs=FRAMES, nodes=(node,), outputs=("q",))
    back = Graph.from_json(json.loads(json.dumps(graph.to_json()))).nodes[0]
    for quantize in (node, back):
        assert quantize.grid(8) == Grid(step=0.5, low=0, high=255, origin=0.0)
        assert quantize.grid(4) == Grid(step=0.25, low=-7, high=7, origin=0.125)
        assert quantize.grid(32) is None


def test_an_lstm_gives_its_state_too():
    inputs = {**FRAMES, "h": (1, 4), "c": (1, 4)}
    node = Node(op="lstm", name="cell", inputs=("frames", "h", "c"), attrs={"layer": "l", "hidden": 4})
    assert node.outputs == ("cell", "cell.h", "cell.c")
    Graph(inputs=inputs, nodes=(node, relu("y", "cell.h")), outputs=("y", "cell.c"))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (dict(op="gelu", name="n", inputs=("x",)), "node 'n': unknown op 'gelu'; known are"),
        (dict(op="clamp", name="n", inputs=("x",), attrs={"low": 0}), r"node 'n' \(clamp\).*expected.*high"),
        (dict(op="relu", name="n", inputs=("x",), attrs={"slope": 1}), r"node 'n' \(relu\): attributes are"),
        (dict(op="add", name="n", inputs=("x",)), r"node 'n' \(add\): 1 inputs, expected 2"),
        (dict(op="relu", name="n", inputs=("x", "y")), r"node 'n' \(relu\): 2 inputs, expected 1"),
        (dict(op="lstm", name="n", inputs=("x",), attrs={"layer": "l", "hidden": 1}), "1 inputs, expected 3"),
    ],
)
def test_nodes_that_are_refused(node, message):
    with pytest.raises(ValueError, match=message):
        Node(**node)


@pytest.mark.parametrize(
    ("nodes", "outputs", "message"),
    [
        (
            (relu("b", "a"), relu("a", "frames")),
            ("b",),
            r"node 'b' reads \['a'\], which nothing before it gives",
        ),
        ((relu("a", "frames"), relu("a", "frames")), ("a",), r"the name \['a'\] is given twice"),
        ((relu("frames", "frames"),), ("frames",), r"the name \['frames'\] is given twice"),
        ((relu("a", "frames"),), ("a", "z"), r"outputs \['z'\] are given by no node"),
    ],
)
def test_graphs_that_are_refused(nodes, outputs, message):
    with pytest.raises(ValueError, match=message):
        Graph(inputs=FRAMES, nodes=nodes, outputs=outputs)


def test_every_op_is_in_the_table_of_the_module():
    import mmvideoiq.deploy.bundle.graph as module

    rows = [line.split() for line in module.__doc__.splitlines()]
    named = {row[0] for row in rows if row and row[0] in ATTRIBUTES}
    assert named == set(ATTRIBUTES)


def test_frames_are_resized_before_all_else():
    graph = toy_parts(quantize_stem=True)["graphs"]["recognition"]
    half = graph.resized((16, 16))
    assert [node.op for node in half][:3] == ["normalize", "resize", "quantize"] and len(half.nodes) == len(
        graph.nodes
    ) + 1
    assert half.inputs == graph.inputs and half.outputs == graph.outputs
    before, after = graph.nodes[1].grid(8), half.nodes[2].grid(8)
    assert after == before._replace(origin=before.origin - before.step / 64)
    assert half.nodes[3:] == graph.nodes[2:]
    own = graph.resized((32, 32))
    assert [node.op for node in own] == [node.op for node in graph] and own.nodes[1].grid(8) == after
