"""The stages as two pools of actors of Ray Data, on this machine or on a cluster.

Ray passes blocks of a few videos from one pool to the other and holds decoding back while recognition is behind, so
that memory stays bounded; it starts a worker that died anew and repeats its block. The account of what is done is not
Ray's: see ``shards.py``.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmvideoiq.deploy.bundle import Bundle
from mmvideoiq.jobs.environment import child_environment, usable_cpus
from mmvideoiq.jobs.errors import RunStopped, one_line
from mmvideoiq.jobs.signals import restore_signals
from mmvideoiq.jobs.temporary import KEPT, temporary_folder
from mmvideoiq.service.bulk.fetch import open_decoder
from mmvideoiq.service.bulk.plan import Plan, Settings
from mmvideoiq.service.bulk.stages import decode, open_session, recognized
from mmvideoiq.video.preprocessing import Preprocessing

SHORT = Path("/tmp")  # Ray's sockets need a short path
BLOCK_BYTES = 16 * 2**20  # of frames that pass from stage to stage at a time
MAX_BLOCK = 32  # videos
STORE_BYTES = 256 * 2**20  # of an embedded Ray's object store, at least
BLOCKS_IN_FLIGHT = 6  # for each actor
SILENCE_S = 900.0  # without any block done, after which the rest is tried one by one, at least


@dataclass(frozen=True, kw_only=True)
class Pools:
    """How many actors, each with how many CPUs as Ray counts them.

    Attributes:
        decoders, recognizers: actors of each stage.
        threads: of each recognizer's engine.
        share: CPUs that Ray reserves for an actor: all of them together half of the CPUs, so that they find room when
            machines are lost. The stages take turns on all CPUs.
    """

    decoders: int
    recognizers: int
    threads: int
    share: float

    @classmethod
    def fit(cls, cpus: float, *, decoders: int | None, recognizers: int | None, threads: int | None) -> Pools:
        """What is not given follows from the CPUs: a decoder for each, and recognizers whose threads fill them."""
        threads = threads or 1
        decoders = decoders or max(1, int(cpus))
        recognizers = recognizers or max(1, int(cpus) // threads)
        return cls(
            decoders=decoders,
            recognizers=recognizers,
            threads=threads,
            share=0.5 / max(1, math.ceil((decoders + recognizers) / cpus)),
        )


class Decode:
    """An actor of the first stage; its decoder is a child process, so that no video ends the actor."""

    def __init__(self, preprocessing: Mapping[str, Any], time_limit_s: float, max_bytes: int) -> None:
        self._decoder = open_decoder(
            Preprocessing(**preprocessing), time_limit_s=time_limit_s, max_bytes=max_bytes
        )

    def __call__(self, block: pa.Table) -> pa.Table:
        return decode(self._decoder, block)


class Recognize:
    """An actor of the second stage; the bundle comes as its files, which need not be on this machine."""

    def __init__(self, bundle: Any, settings: Settings, threads: int) -> None:
        import ray

        with tempfile.TemporaryDirectory(prefix="mmvideoiq-bundle-") as folder:
            for name, content in ray.get(bundle).items():
                Path(folder, name).write_bytes(content)
            opened = Bundle.open(folder)  # maps its files into memory
        self._session = open_session(opened, settings, threads=threads)

    def __call__(self, block: pa.Table) -> pa.Table:
        return recognized(self._session, block)


@contextmanager
def started(address: str | None, *, object_store_bytes: int) -> Iterator[None]:
    """A Ray of this process's own, which ends with it, or the cluster at ``address``.

    Raises:
        RunStopped: it does not start, or the cluster cannot be reached.
        ImportError: Ray is not installed.
    """
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"Ray is not installed ({error}): pip install 'mmvideoiq[bulk]', or give --no-ray"
        ) from None

    warnings.filterwarnings("ignore", module=r"ray\.")  # to developers
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":
            handler.setLevel(logging.CRITICAL)  # its file has all
    how: dict[str, Any] = dict(log_to_driver=False, logging_level=logging.ERROR)
    if address is not None:
        with connected(how | dict(address=address), failed=f"the Ray cluster at {address} cannot be reached"):
            yield
        return
    os.environ["PYTHONPATH"] = child_environment()["PYTHONPATH"]
    with temporary_folder("mmvideoiq-bulk-", place=SHORT) as folder:
        how |= dict(
            address="local",
            num_cpus=usable_cpus(),
            include_dashboard=False,
            object_store_memory=object_store_bytes,
            _temp_dir=str(folder / "r"),
        )
        try:
            with connected(how, failed="Ray does not start"):
                yield
        except RunStopped as stop:
            (folder / KEPT).touch()
            raise RunStopped(f"{stop}; logs are in {folder}") from stop


@contextmanager
def connected(how: Mapping[str, Any], *, failed: str) -> Iterator[None]:
    """``ray.init`` and its end; RunStopped, which begins with ``failed``."""
    import ray

    try:
        try:
            with silent_stderr():
                ray.init(**how)
        except Exception as error:  # as many kinds as it has reasons
            raise RunStopped(f"{failed}: {one_line(error)}") from None
        if threading.current_thread() is threading.main_thread():
            restore_signals()  # Ray has put a handler of SIGTERM in place of ours
        yield
    finally:
        with suppress(Exception):  # what is left of it ends with this process
            ray.shutdown()


@contextmanager
def silent_stderr() -> Iterator[None]:
    """What libraries print there goes nowhere; Ray's processes begin with it."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class RayPipeline:
    """The two stages, ready for places of a plan. Within :func:`started`.

    Args:
        preprocessing: from a video to frames.
        time_limit_s, max_bytes: of a video, as :func:`open_decoder` has them.
        decoders, recognizers, threads: as :meth:`Pools.fit`, for all CPUs of the cluster.
    """

    def __init__(
        self,
        plan: Plan,
        bundle: Bundle,
        settings: Settings,
        *,
        preprocessing: Preprocessing,
        time_limit_s: float,
        max_bytes: int,
        decoders: int | None,
        recognizers: int | None,
        threads: int | None,
    ) -> None:
        import ray

        cpus = ray.cluster_resources().get("CPU", 0.0)
        if not cpus:
            raise RunStopped("the Ray cluster has no CPUs: start a worker node")
        self.pools = Pools.fit(cpus, decoders=decoders, recognizers=recognizers, threads=threads)
        self._plan, self._settings, self._preprocessing = plan, settings, preprocessing
        self._limits = (time_limit_s, max_bytes)
        self._bundle = ray.put(
            {file.name: file.read_bytes() for file in bundle.path.iterdir() if file.is_file()}
        )
        self._block = videos_of_block(preprocessing)

    def run(self, places: Sequence[int], *, alone: Sequence[int] = ()) -> Iterator[pa.Table]:
        """Tables of :data:`RESULT`, as they come. Places that Ray gave up are left out.

        Args:
            alone: places after the others, each of which is a block of its own.

        Raises:
            RunStopped: an actor cannot be made, or Ray has ended; the message is the cause.
        """
        import ray
        from ray.data import ActorPoolStrategy, DataContext
        from ray.data.exceptions import ExecutionTimeoutError

        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1
        context.target_max_block_size = None  # a block stays whole, so that a repeated one is the same
        context.execution_no_progress_timeout_s = max(SILENCE_S, 2 * self._block * self._limits[0])
        pools = self.pools
        size = min(self._block, math.ceil(len(places) / (2 * pools.decoders)) or 1)
        blocks = [places[start : start + size] for start in range(0, len(places), size)]
        tables = [self._table(block) for block in [*blocks, *([place] for place in alone)]]
        dataset = ray.data.from_blocks(tables)  # `from_arrow` would start a task for each
        dataset = dataset.map_batches(
            Decode,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(pools.decoders, len(tables))),
            num_cpus=pools.share,
            fn_constructor_args=(self._preprocessing._asdict(), *self._limits),
        )
        dataset = dataset.map_batches(
            Recognize,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(pools.recognizers, len(tables))),
            num_cpus=pools.share,
            fn_constructor_args=(self._bundle, self._settings, pools.threads),
        )
        try:
            yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        except ExecutionTimeoutError:  # a video that ends its worker each time, or no workers
            return
        except Exception as error:  # as many kinds as it has reasons
            raise RunStopped(f"Ray: {cause(error)}") from error

    def _table(self, places: Sequence[int]) -> pa.Table:
        return pa.table({"place": pa.array(places, pa.int64()), "path": self._plan.paths.take(list(places))})


def videos_of_block(preprocessing: Preprocessing) -> int:
    """So many that their frames have about :data:`BLOCK_BYTES`."""
    height, width = preprocessing.size or (224, 224)
    return min(MAX_BLOCK, max(1, BLOCK_BYTES // (3 * preprocessing.frames * height * width)))


def store_bytes(preprocessing: Preprocessing, actors: int) -> int:
    """Of the object store: room for the blocks that wait for each actor."""
    height, width = preprocessing.size or (224, 224)
    block = 3 * preprocessing.frames * height * width * videos_of_block(preprocessing)
    return max(STORE_BYTES, BLOCKS_IN_FLIGHT * actors * block)


def cause(error: BaseException) -> str:
    """The last line of what a worker raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
