"""All layers of a decode step in one launch: how the kernel is compiled and started.

The kernel is CUDA C++ (``tts/kernels/cuda``), compiled at the first use for the shape at hand: what
it lives on, clusters of blocks that write into each other's shared memory and weights that a copy
engine brings, has no counterpart in Triton.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tts.kernels.packed_layers import RANKS, WARPS, Shape

CAPABILITY = 9, 0  # what it was tried on; it wants clusters, so no older one can
# Weights, numbers, gains, x, hidden, positions, keys, values | strides of the cache in elements, by
# layer, row and head | cosines, sines, parts, counter | layers, and what norms add.
ARGUMENTS = (
    *[ctypes.c_void_p] * 8, *[ctypes.c_longlong] * 3, *[ctypes.c_void_p] * 4, ctypes.c_int,
    ctypes.c_float,
)  # fmt: skip
_FOLDER = Path(__file__).with_name("cuda")


class NoKernelError(Exception):
    """A shape cannot be compiled, or its blocks do not find room at once."""


class Kernel:
    """The kernel for a shape on a device, compiled.

    Raises:
        NoKernelError: There is none for this shape on this device.
        RuntimeError: A call of CUDA failed.
    """

    def __init__(self, shape: Shape, device: torch.device) -> None:
        from cuda.bindings import driver

        self.shape, self.device = shape, device
        with torch.cuda.device(device):
            torch.cuda.current_stream().synchronize()  # there is a context then
            module = _checked(driver.cuModuleLoadData(compiled(shape)))
            self.function = _checked(driver.cuModuleGetFunction(module, b"layers"))
            address, _ = _checked(driver.cuModuleGetGlobal(module, b"LAYOUT"))
            layout = (ctypes.c_int * 4)()
            _checked(driver.cuMemcpyDtoH(ctypes.addressof(layout), address, 16))
            self.shared_bytes = layout[0]
            self.n_numbers = layout[3]
            if layout[1:3] != [shape.n_units, shape.unit_bytes]:
                raise RuntimeError(f"cuda/shape.cuh counts otherwise: {list(layout)} for {shape}")
            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            _checked(driver.cuFuncSetAttribute(self.function, attribute, self.shared_bytes))
            room = _checked(driver.cuOccupancyMaxActiveClusters(self.function, self._launch()))
        if room < shape.n_heads:
            raise NoKernelError(
                f"{shape.n_heads} clusters of blocks are needed at once, there is room for {room}"
            )

    def _launch(self) -> Any:  # noqa: ANN401 - a CUlaunchConfig
        from cuda.bindings import driver

        launch = driver.CUlaunchConfig()
        launch.gridDimX, launch.gridDimY, launch.gridDimZ = self.shape.n_heads * RANKS, 1, 1
        launch.blockDimX, launch.blockDimY, launch.blockDimZ = 32 * WARPS, 1, 1
        launch.sharedMemBytes = self.shared_bytes
        launch.hStream = torch.cuda.current_stream(self.device).cuda_stream
        cooperative = driver.CUlaunchAttribute()  # all blocks at once, or none
        cooperative.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
        value = driver.CUlaunchAttributeValue()
        value.cooperative = 1
        cooperative.value = value
        launch.attrs, launch.numAttrs = [cooperative], 1
        return launch

    def __call__(self, *arguments: Tensor | int | float) -> None:
        """Launch on the current stream, with arguments of ``ARGUMENTS``."""
        from cuda.bindings import driver

        values = tuple(
            argument.data_ptr() if isinstance(argument, Tensor) else argument
            for argument in arguments
        )
        with torch.cuda.device(self.device):
            _checked(driver.cuLaunchKernelEx(self._launch(), self.function, (values, ARGUMENTS), 0))


@functools.cache
def kernel(shape: Shape, device: torch.device) -> Kernel:
    """Return the kernel for a shape, loaded once a process and device."""
    return Kernel(shape, device)


def compiled(shape: Shape) -> bytes:
    """Return machine code for a shape: compiled now, or found beside what Triton keeps on disk.

    Raises:
        NoKernelError: With what the compiler says.
    """
    import triton
    from cuda.bindings import nvrtc

    sources = {path.name: path.read_bytes() for path in sorted(_FOLDER.glob("*.cu*"))}
    defines = {
        "WIDTH": shape.width, "FFN": shape.ffn, "C": RANKS, "N_CLUSTERS": shape.n_heads,
        "ROWS": shape.n_rows, "BITS": shape.bits, "QK_NORM": int(shape.qk_norm),
        "STAGE_UNITS": shape.stage_units,
    }  # fmt: skip
    architecture = "".join(map(str, CAPABILITY))
    options = [f"--gpu-architecture=sm_{architecture}", "--std=c++17", "-default-device"]
    options += [f"-D{name}={value}" for name, value in defines.items()]
    version = _checked(nvrtc.nvrtcVersion())
    key = hashlib.sha256(repr((sources, options, version)).encode()).hexdigest()
    kept = Path(triton.knobs.cache.dir) / f"mosgate-layers-{key[:32]}.cubin"
    if kept.exists():
        return kept.read_bytes()
    image = _compile(sources, options)
    with contextlib.suppress(OSError):  # one that cannot be kept is compiled anew next time
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as beside:
            beside.write(image)
        Path(beside.name).replace(kept)
    return image


def _compile(sources: dict[str, bytes], options: Sequence[str]) -> bytes:
    from cuda.bindings import nvrtc

    headers = [name for name in sources if name.endswith(".cuh")]
    program = _checked(
        nvrtc.nvrtcCreateProgram(
            sources["layers.cu"], b"layers.cu", len(headers),
            [sources[name] for name in headers], [name.encode() for name in headers],
        )
    )  # fmt: skip
    status, *_ = nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options])
    try:
        if int(status):
            log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
            _checked((*nvrtc.nvrtcGetProgramLog(program, log), None))
            raise NoKernelError(f"layers.cu: {log.decode().rstrip(chr(0))}")
        image = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program)))
        _checked((*nvrtc.nvrtcGetCUBIN(program, image), None))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return image


def _checked(result: tuple[Any, ...]) -> Any:  # noqa: ANN401 - whatever the call returns
    status, *rest = result
    if int(status):
        raise RuntimeError(f"CUDA: {status!r}")
    return rest[0] if len(rest) == 1 else rest
