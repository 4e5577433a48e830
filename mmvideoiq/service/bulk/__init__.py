"""Many videos, in one process or on a Ray cluster: a plan that is made once, and its results in Parquet shards.

::

    sources.py   files, folders, globs, lists, tables and buckets -> paths
    plan.py      paths and settings, stored once; what a later start has to agree with
    fetch.py     the decoder process that also fetches from the network
    stages.py    decode, recognize: a video's two steps, as Arrow tables
    local.py     the stages in this process
    on_ray.py    the stages as actors of Ray Data
    shards.py    results -> shards; what is still to do
    starts.py    what each start did, and in which time
    summary.py   what a run came to
    arguments.py what the command line says
    command.py   the command
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its decoder processes do not import it."""
    from mmvideoiq.service.bulk.command import main as command

    return command(argv)
