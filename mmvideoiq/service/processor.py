"""The doctor's checks of the processor: what it can do, and what that means for speed."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterator

from mmvideoiq.deploy.engines.cpu import cpu_flags, cpu_name, has_bf16, has_vnni
from mmvideoiq.service.findings import Finding

ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
X86 = ("x86_64", "AMD64")
WEIGHTS = "one scale for each layer makes 8 bits cheaper (docs/precisions.md, Weights)"


def check_processor() -> Iterator[Finding]:
    flags = cpu_flags()
    if not flags:
        found = f"{cpu_name()}; this system does not list what it can do, so engines take no shortcuts"
        yield Finding(
            name="processor", state="yellow", found=found, todo="run on Linux for the fastest kernels"
        )
        return
    for name in ISA_LIMITS:
        if name in os.environ:
            found = f"{name}={os.environ[name]} keeps the engines from what the CPU can do"
            yield Finding(
                name=name, state="yellow", found=found, todo=f"unset {name}, unless you test with it"
            )
    if platform.machine() in X86:
        yield from _x86(flags)
    else:
        yield Finding(name="processor", state="green", found=cpu_name())
        yield _other(flags)


def _x86(flags: Collection[str]) -> Iterator[Finding]:
    wide = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), None)
    if wide is None:
        found = f"{cpu_name()}: without AVX2 everything runs several times slower"
        yield Finding(name="processor", state="yellow", found=found, todo="use a CPU of 2015 or later")
    else:
        yield Finding(name="processor", state="green", found=f"{cpu_name()}, {wide}")
    if has_vnni(flags):
        found = (
            "yes: frames at 8, 4 and 2 bits run in the CPU's own 8-bit products, each in about the same time"
        )
        yield Finding(name="VNNI", state="green", found=found)
    else:
        found = "no: 8-bit products are added in 16 bits, so layers that could overflow take longer at 8 bits than at 4"
        yield Finding(name="VNNI", state="yellow", found=found, todo=WEIGHTS)
    if "amx_int8" in flags:
        found = "yes: 8-bit and bf16 products run on tiles; smaller frames and skips save more time than fewer bits"
    else:
        found = "no: integer layers use vectors, which is what most CPUs have"
    yield Finding(name="AMX", state="green", found=found)
    if has_bf16(flags):
        yield Finding(
            name="bf16",
            state="green",
            found="yes: frames at 32 bits run in bf16 with OpenVINO, faster than in float32; policies do not",
        )
    else:
        yield Finding(
            name="bf16",
            state="yellow",
            found="no: frames at 32 bits run in float32, the slowest that there is; lower bits are not affected",
            todo="a lower --budget takes fewer frames at 32 bits",
        )


def _other(flags: Collection[str]) -> Finding:
    if "asimddp" in flags or "i8mm" in flags:
        found = "yes: 8-bit layers multiply with the CPU's own instructions"
        return Finding(name="8-bit products", state="green", found=found)
    found = "no: frames at 8, 4 and 2 bits gain less over float than on other CPUs"
    return Finding(
        name="8-bit products", state="yellow", found=found, todo="smaller frames and skips save time"
    )
