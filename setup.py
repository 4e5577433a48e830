"""Packaging of mmvideoiq. Tested versions stand in requirements.txt; here are names and hard bounds."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION: dict[str, str] = {}
exec(
    "\n".join(line for line in (HERE / "mmvideoiq/__init__.py").read_text().splitlines() if "=" in line),
    VERSION,
)

# mmcv is not named: mmcv-lite and the full mmcv own the same module, and a full one must not be overwritten.
# cv2 is not named for the same reason: three packages own it (requirements.txt says which one is used).
TRAIN = [
    "torch>=2.6",
    "mmengine>=0.10.4,<1",
    "mmaction2==1.2.0",
    "decord",
    "importlib_metadata",
    "av",
    "pebble>=5",
    "rich",
    "matplotlib",
    "setuptools<81",
]
# Runs exported bundles: no torch, no mm*. In an environment of its own cv2 has one owner.
RUNTIME = [
    "safetensors>=0.4",
    "jsonschema>=4.18",
    "decord",
    "opencv-python-headless",
    "rich",
    "openvino>=2025.0",
    "onnx>=1.16",
    "onnxruntime>=1.18",
]
ZOO = ["rich", "PyYAML", "filelock"]
LMDB = ["lmdb"]
DOCS = ["mkdocs>=1.6", "mkdocs-material", "mkdocstrings[python]"]
BENCHMARK = ["nncf>=2.15", "psutil"]
DEV = ["pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "model-index"]

# What a wheel holds beside the package, in mmvideoiq/.mim, which is OpenMIM's place: the metafiles and configs,
# the tools, and the weights that the zoo ships (zoo/README.md).
MIM = ("model-index.yml", "configs", "tools", "zoo")


class BuildWithMim(build_py):
    """Copies them into the build; the source tree stays as it is, an editable installation reads them there."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "mmvideoiq", ".mim")
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        target.mkdir()
        for name in MIM:
            if (HERE / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", ".*")
                shutil.copytree(HERE / name, target / name, ignore=ignored)
            else:
                shutil.copy2(HERE / name, target / name)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        copied = Path(self.build_lib, "mmvideoiq", ".mim").rglob("*")
        return [*super().get_outputs(include_bytecode), *(str(path) for path in copied if path.is_file())]


setup(
    name="mmvideoiq",
    version=VERSION["__version__"],
    description="Dynamic-precision video recognition (VideoIQ, arXiv:2108.10394) as a plugin of MMAction2",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["mmvideoiq", "mmvideoiq.*"]),
    cmdclass={"build_py": BuildWithMim},
    python_requires=">=3.11",
    install_requires=["numpy"],
    extras_require={
        "train": TRAIN + ZOO,
        "runtime": RUNTIME + ZOO,
        "benchmark": BENCHMARK,
        "lmdb": LMDB,
        "docs": DOCS,
        "dev": TRAIN + RUNTIME + ZOO + LMDB + DOCS + DEV,
    },
)
