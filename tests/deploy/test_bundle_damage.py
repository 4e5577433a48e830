"""Damaged and hostile files do not open."""

import hashlib
import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmvideoiq import __version__
from mmvideoiq.deploy.bundle.bundle import Bundle
from tests.deploy.signed_bundle import FILES, canonical, refused, sign
from tests.deploy.toy_bundle import make_toy_bundle


def places(data: bytes, name: str, count: int = 90) -> list[int]:
    """Byte positions: both ends, what frames a safetensors header, and ``count`` seeded ones."""
    edges = {0, 1, 7, 8, 9, len(data) // 2, len(data) - 2, len(data) - 1}
    if name.endswith(".safetensors"):
        end = 8 + int.from_bytes(data[:8], "little")  # of the header, which spaces fill up to it
        edges |= {*range(8), end - 2, end - 1, end, end + 1}
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return sorted(edges | set(np.random.default_rng(seed).choice(len(data), count, replace=False).tolist()))


def test_every_flipped_byte_is_found(copy):
    rng, tried = np.random.default_rng(0), 0
    for name in FILES:
        file = copy / name
        data = file.read_bytes()
        for place in places(data, name):
            flip = int(rng.integers(1, 256))
            file.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
            assert f"{file}: " in refused(copy)
            tried += 1
        file.write_bytes(data)
        Bundle.open(copy)
    assert tried >= 200


@pytest.mark.slow
def test_every_bit_of_the_manifest_counts(copy):
    file = copy / "manifest.json"
    data = file.read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            file.write_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
            refused(copy)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, -1, "twice", "one more"])
def test_files_of_another_length(copy, name, kept):
    data = (copy / name).read_bytes()
    changed = (
        {"twice": data * 2, "one more": data + b"\n"}.get(kept) if isinstance(kept, str) else data[:kept]
    )
    (copy / name).write_bytes(changed)
    message = refused(copy)
    assert f"{copy / name}: " in message and "is damaged" in message and "export or download" in message


@pytest.mark.parametrize("name", FILES[1:])
def test_a_missing_file(copy, name):
    (copy / name).unlink()
    assert refused(copy) == f"{copy / name}: is missing; export or download the bundle again"


@pytest.mark.parametrize("name", FILES[1:])
def test_a_folder_in_place_of_a_file(copy, name):
    (copy / name).unlink()
    (copy / name).mkdir()
    assert f"{name}: is missing" in refused(copy)


def test_files_of_two_bundles_do_not_mix(copy, tmp_path):
    other = make_toy_bundle(tmp_path / "other", seed=1)
    shutil.copy(other / "policy.safetensors", copy)
    assert "policy.safetensors: is damaged: its checksum does not fit" in refused(copy)


def test_an_extra_file(copy):
    (copy / "notes.txt").write_text("")
    assert refused(copy) == f"{copy / 'notes.txt'}: is not part of this bundle; move it elsewhere"


def test_what_is_no_bundle(tmp_path):
    assert refused(tmp_path / "none").endswith(
        "there is no such folder; check the path; a published bundle is named zoo://NAME"
    )
    for name in ("zoo://some_bundle", Path("zoo://some_bundle")):
        assert refused(name).endswith("not a folder: open mmvideoiq.zoo.download('some_bundle')")
    assert refused(tmp_path).endswith("is not a bundle: it holds no manifest.json; check the path")
    (tmp_path / "file").write_text("x")
    assert "holds no manifest.json" in refused(tmp_path / "file")
    (tmp_path / "manifest.json").write_bytes(canonical({"format": "other"}))
    assert refused(tmp_path).endswith(
        "is not the manifest of a bundle (format 'mmvideoiq-bundle'); check the path"
    )


def test_a_folder_that_may_not_be_read(toy, monkeypatch):
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    message = refused(toy)
    assert "Permission denied" in message and message.endswith("check the path")


def test_a_newer_version_says_what_reads_it(copy):
    sign(copy, lambda manifest: manifest.update(version=2, made_by="mmvideoiq 7.1", unheard_of=[1]))
    assert refused(copy) == (
        f"{copy}/manifest.json: has version 2, this mmvideoiq {__version__} reads 1; "
        "upgrade mmvideoiq: the bundle was made by 'mmvideoiq 7.1'"
    )


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None])
def test_versions_that_never_were(copy, version):
    sign(copy, lambda manifest: manifest.update(version=version))
    assert f"has the unknown version {version!r}" in refused(copy)


# --- hostile files ------------------------------------------------------------

HOSTILE = {
    "nothing": b"",
    "blank": b" \n",
    "NaN": b'{"format": NaN}',
    "infinity": b'{"format": -Infinity}',
    "too large a float": b'{"format": "mmvideoiq-bundle", "version": 1, "x": 1e999}',
    "too long an integer": b'{"format": ' + b"9" * 5000 + b"}",
    "an integer": b"7",
    "null": b"null",
    "a list": b'["mmvideoiq-bundle"]',
    "deep lists": b"[" * 200_000 + b"]" * 200_000,
    "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "deep and unclosed": b"[" * 1_000_000,
    "deep inside": b'{"format": "mmvideoiq-bundle", "version": 1, "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    "no text": b"\xff\xfe\x00{",
    "utf-16": '{"format": "mmvideoiq-bundle"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "half a character": b'{"format": "mmvideoiq-bundle", "version": 1, "x": "\\ud800"}',
    "repeated keys": b'{"format": "mmvideoiq-bundle", "format": "mmvideoiq-bundle", "version": 1}',
    "huge": b'"' + b"x" * 9 * 2**20 + b'"',
    "huge version": b'{"format": "mmvideoiq-bundle", "version": ' + b"9" * 4000 + b', "made_by": "'
    + b"line\\n" * 9000 + b'"}',
    "long names": b'{"format": "mmvideoiq-bundle", "version": 1, "' + b"x" * 100_000 + b'": 1}',
    "pickle": pickle.dumps({"format": "mmvideoiq-bundle", "version": 1}),
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", FILES[:2])
def test_hostile_json(copy, name, data):
    (copy / name).write_bytes(data)
    if name != "manifest.json":
        sign(copy)
    assert f"{copy / name}: " in refused(copy)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("huge", "is larger than 8388608 bytes"), ("NaN", "not JSON (NaN is not a JSON number)")],
)
def test_messages_about_hostile_json(copy, kind, message):
    (copy / "manifest.json").write_bytes(HOSTILE[kind])
    assert message in refused(copy)


@pytest.mark.parametrize("value", ["x" * 10**6, [[]] * 10**5, 10**400])
@pytest.mark.parametrize("key", ["classes", "files", "cost", "made_by"])
def test_huge_values_in_a_signed_manifest(copy, key, value):
    sign(copy, lambda manifest: manifest.update({key: value}))
    if key == "made_by" and isinstance(value, str):
        Bundle.open(copy)  # any text will do there
    else:
        assert f"$.{key}" in refused(copy)


OTHER_SPELLINGS = {
    "tabs": lambda text: text.replace(" ", "\t", 1),
    "windows": lambda text: text.replace("\n", "\r\n"),
    "one line": lambda text: json.dumps(json.loads(text)),
    "longer number": lambda text: re.sub(r"(\d\.\d)\b", r"\g<1>0", text, count=1),
    "exponent": lambda text: re.sub(r"(\d\.\d)\b", r"\g<1>e0", text, count=1),
    "escaped": lambda text: text.replace('"c', '"\\u0063', 1),
    "repeated": lambda text: text.replace("{\n", '{\n "policy": 1,\n', 1),
    "other order": lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=1) + "\n",
}


@pytest.mark.parametrize("name", FILES[:2])
@pytest.mark.parametrize("spelling", OTHER_SPELLINGS.values(), ids=OTHER_SPELLINGS)
def test_the_same_json_written_otherwise_is_damage_too(copy, name, spelling):
    text = (copy / name).read_text()
    assert spelling(text) != text
    (copy / name).write_bytes(spelling(text).encode())
    if name != "manifest.json":
        sign(copy)
    assert f"{copy / name}: is damaged: " in refused(copy)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


HEADERS = {
    "empty": b"",
    "short": b"\x01",
    "long header": (2**63).to_bytes(8, "little") + b"{}",
    "header beyond the file": (99).to_bytes(8, "little") + b"{}",
    "no json": (4).to_bytes(8, "little") + b"{{{{",
    "deep": (10**5).to_bytes(8, "little") + b"[" * 10**5,
    "data missing": (58).to_bytes(8, "little")
    + b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}    ',
    "no tensors": (8).to_bytes(8, "little") + b"{}      ",
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_signed_files_that_are_no_safetensors(copy, data):
    (copy / "policy.safetensors").write_bytes(data)
    sign(copy)
    assert "policy.safetensors: " in refused(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_is_never_run(copy, tmp_path, name):
    (copy / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    if name != "manifest.json":
        sign(copy)
    assert f"{copy / name}: " in refused(copy) and not (tmp_path / "sprung").exists()
