"""A part that is not in the registry, for each known reason and an unknown one."""

import pytest
from mmengine.registry import MODELS, Registry

from mmvideoiq import compat
from mmvideoiq.compat.packages import installed


def test_missing_package_of_a_part_is_named(unpatched, patched):
    assert "MobileOneTSM is not in the mmaction::model registry" in unpatched["mmpretrain"]
    assert patched["mmpretrain"] == (
        "PartNotRegistered: MobileOneTSM requires mmpretrain, which is not installed: pip install mmpretrain"
    )
    if not installed("mmpretrain"):
        with pytest.raises(
            compat.PartNotRegistered, match="MobileOne requires mmpretrain, which is not installed"
        ):
            MODELS.build(dict(type="mmpretrain.MobileOne"))


def test_unimported_part_names_the_plugin(unpatched, patched):
    assert "VideoIQRecognizer is not in the mmaction::model registry" in unpatched["plugin"]
    assert 'add custom_imports = dict(imports=["mmvideoiq.plugin"], allow_failed' in patched["plugin"]


def test_unknown_part_keeps_the_message_of_the_registry():
    with pytest.raises(KeyError, match="NoSuchPart is not in the"):
        MODELS.build(dict(type="NoSuchPart"))


def test_registered_names_are_found_in_the_source():
    from mmaction import registry

    import mmvideoiq.plugin  # noqa: F401

    registered = {
        name
        for each in vars(registry).values()
        if isinstance(each, Registry)
        for name, part in each.module_dict.items()
        if part.__module__.startswith("mmvideoiq")
    }
    assert registered - {"DRN"} == compat.registered_names()
