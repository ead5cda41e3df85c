# Decides whether the CUDA part is built, from CUDABUILD_CUDA (AUTO, ON, OFF), and enables the language if so.
#
# A compiler that is named (CMAKE_CUDA_COMPILER, the variable CUDACXX) is taken as it is; else nvcc is looked for in
# CUDA_HOME, CUDA_PATH, PATH and /usr/local/cuda. Architectures come from CMAKE_CUDA_ARCHITECTURES or the variable
# CUDAARCHS; by default every major architecture that the toolkit knows.

set(CUDABUILD_HAS_CUDA OFF)
if(CUDABUILD_CUDA STREQUAL "OFF")
  message(STATUS "CUDA: off")
  return()
endif()

if(NOT DEFINED CMAKE_CUDA_COMPILER AND "$ENV{CUDACXX}" STREQUAL "")
  find_program(CUDABUILD_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  mark_as_advanced(CUDABUILD_NVCC)
  if(CUDABUILD_NVCC)
    set(ENV{CUDACXX} "${CUDABUILD_NVCC}")
  elseif(CUDABUILD_CUDA STREQUAL "ON")
    message(FATAL_ERROR
      "CUDABUILD_CUDA=ON, and there is no CUDA toolkit: no nvcc in CUDA_HOME, CUDA_PATH, PATH or /usr/local/cuda.\n"
      "Set CUDACXX to an nvcc, or CUDABUILD_CUDA=OFF for the CPU part alone.")
  else()
    message(STATUS "CUDA: no toolkit, CPU part alone")
    return()
  endif()
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND "$ENV{CUDAARCHS}" STREQUAL "" AND NOT CMAKE_VERSION VERSION_LESS 3.23)
  set(CMAKE_CUDA_ARCHITECTURES all-major)
endif()

if(CUDABUILD_CUDA STREQUAL "AUTO")
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    message(WARNING "CUDA: $ENV{CUDACXX} compiles nothing (CUDABUILD_CUDA=ON shows why); CPU part alone")
    return()
  endif()
endif()

enable_language(CUDA)
set(CUDABUILD_HAS_CUDA ON)
message(STATUS "CUDA: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
