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

# Exporting bundles and running them. In an environment of its own cv2 has one owner.
BUNDLES = ["safetensors>=0.4", "jsonschema>=4.18", "openvino>=2025.0", "onnx>=1.16", "onnxruntime>=1.18"]
RUNTIME = BUNDLES + ["av>=14", "opencv-python-headless", "rich"]  # decord: the other reader, if it is wanted
# Training. Three packages ask for a cv2: mmengine and mmcv-lite for opencv-python, mmaction2 for
# opencv-contrib-python. pip cannot leave one out, but in one version their files agree.
OPENCV = "5.0.0.93"
TRAIN = BUNDLES + [
    "torch>=2.6",
    "mmengine>=0.10.4,<1",
    "mmaction2==1.2.0",
    "mmcv-lite>=2.0.0,<2.2.0",  # as mmaction2 asserts; it has the import name of the full mmcv
    f"opencv-python=={OPENCV}",
    f"opencv-contrib-python=={OPENCV}",
    "decord",
    "importlib_metadata",
    "av>=14",
    "pebble>=5",
    "rich",
    "matplotlib",
    "scipy>=1.15",
    "tensorboard",
    "setuptools<81",
]
ZOO = ["rich", "PyYAML", "filelock", "argcomplete>=3.5"]  # the command, and what it lists
# `mmvideoiq serve`
SERVE = ["starlette>=1.0", "uvicorn>=0.30", "python-multipart>=0.0.18", "prometheus_client>=0.20"]
# `mmvideoiq bulk`; without `s3fs` it reads no s3://, without `ray` it needs --no-ray.
BULK = ["pyarrow>=15", "fsspec", "aiohttp", "ray[data]>=2.60"]
BUCKETS = ["s3fs"]
LMDB = ["lmdb"]
DOCS = ["mkdocs>=1.6", "mkdocs-material", "mkdocstrings[python]"]
BENCHMARK = ["nncf>=2.15", "psutil"]
DEV = [
    "pytest",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "ruff",
    "mypy",
    "aio-rtsp-toolkit",
    "playwright",
]

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
    project_urls={"Paper": "https://arxiv.org/abs/2108.10394"},
    packages=find_packages(include=["mmvideoiq", "mmvideoiq.*"]),
    package_data={"mmvideoiq.service.serve": ["static/*"], "mmvideoiq.visualization": ["page.css"]},
    cmdclass={"build_py": BuildWithMim},
    python_requires=">=3.11",
    entry_points={"console_scripts": ["mmvideoiq = mmvideoiq.service.main:main"]},
    install_requires=["numpy"],
    extras_require={
        "train": TRAIN + ZOO,
        "runtime": RUNTIME + ZOO,
        "serve": RUNTIME + ZOO + SERVE,
        "bulk": RUNTIME + ZOO + BULK + BUCKETS,
        "benchmark": BENCHMARK,
        "lmdb": LMDB,
        "docs": DOCS,
        "dev": TRAIN + ZOO + SERVE + BULK + LMDB + DOCS + DEV,
    },
)
