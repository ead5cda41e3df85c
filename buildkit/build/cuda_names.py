"""By what names CUDA's files are known in a folder that other programs share (``/usr/include``, a conda prefix).

Collected from the file lists of the CUDA 13.0 packages and, for older names, of the 11.8 and 12.x ones.
"""

from __future__ import annotations

import re

TOOL = re.compile(
    r"""nvcc(\..*)? | __nvcc_device_query | cudafe\+\+ | cicc | ptxas | fatbinary | nvlink | bin2c
    | cuobjdump | nvdisasm | nvprune | cu\+\+filt""",
    re.VERBOSE,
)
HEADER = re.compile(
    r"""cu(da|blas|fft|rand|solver|sparse|pti|file|Complex|dss).*
    | nv(blas|fatbin|jpeg|JitLink|ml|perf|PTX|rtc|Tools|tx|vm|functional|_decode).*
    | generated_\w+_meta\.h | npp.* | nv | crt | cccl | cub | thrust | cooperative_groups.*
    | (builtin|device|surface|texture|vector)_types\.h
    | (surface|texture)_(indirect_)?functions\.h(pp)?
    | (channel_descriptor|common_functions|driver_functions|driver_types|fatbinary_section|host_config)\.h
    | (host_defines|library_types|math_constants|math_functions|mma|vector_functions)\.h(pp)?
    | device_(atomic_functions|double_functions|functions|launch_parameters)\.h(pp)?
    | sm_\d+_\w+\.h(pp)?""",
    re.VERBOSE,
)
LIBRARY = re.compile(
    r"""lib(cu(da|blas|fft|rand|solver|sparse|pti|file|libos|inj)
    | nv(blas|fatbin|jpeg|JitLink|perf|ptx|rtc|Tools|tx|vm) | npp | accinj | checkpoint | pcsampling).*""",
    re.VERBOSE,
)
