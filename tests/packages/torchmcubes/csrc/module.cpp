#include <pybind11/pybind11.h>

#include "functions.h"

PYBIND11_MODULE(torchmcubes_module, module) {
  module.def("mcubes_cpu", &mcubes_cpu);
  module.def("grid_interp_cpu", &grid_interp_cpu);
#ifdef WITH_CUDA
  module.def("mcubes_cuda", &mcubes_cuda);
  module.def("grid_interp_cuda", &grid_interp_cuda);
#endif
}
