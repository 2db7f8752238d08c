#[[
Which runtimes skipfold is compiled with.

SKIPFOLD_OPENVINO, SKIPFOLD_ORT and SKIPFOLD_TENSORRT are each
  AUTO  compiled where CMake finds the runtime (the default),
  ON    an error where CMake does not,
  OFF   left out.
For each runtime that is compiled, SKIPFOLD_WITH_<name> is TRUE in the scope that includes this file.
]]

# One option and what was found for it.
#   name     OPENVINO, ORT or TENSORRT
#   package  what find_package is asked for
#   install  how a user gets the runtime, for the error
#   ARGN     further arguments for find_package
function(skipfold_backend name package install)
  set(SKIPFOLD_${name} AUTO CACHE STRING "Compile the back end for ${package}: AUTO, ON or OFF")
  set_property(CACHE SKIPFOLD_${name} PROPERTY STRINGS AUTO ON OFF)
  set(wanted "${SKIPFOLD_${name}}")
  if(NOT wanted MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "SKIPFOLD_${name} is ${wanted}, and must be AUTO, ON or OFF.")
  endif()
  set(found FALSE)
  if(NOT wanted STREQUAL "OFF")
    find_package(${package} QUIET ${ARGN})
    set(found "${${package}_FOUND}")
    if(NOT found AND wanted STREQUAL "ON")
      message(FATAL_ERROR "SKIPFOLD_${name} is ON, and ${package} was not found: ${install}")
    endif()
  endif()
  set(SKIPFOLD_WITH_${name} "${found}" PARENT_SCOPE)
  skipfold_report(${name} "${wanted}" "${found}" "${package} ${${package}_VERSION}" "${install}")
endfunction()

# One line of the summary: what is compiled in, or why a runtime is not.
function(skipfold_report name wanted found what install)
  if(found)
    message(STATUS "skipfold: ${name}: with ${what}")
  elseif(wanted STREQUAL "OFF")
    message(STATUS "skipfold: ${name}: left out, because SKIPFOLD_${name} is OFF")
  else()
    message(STATUS "skipfold: ${name}: left out, because it was not found (${install})")
  endif()
endfunction()

skipfold_backend(OPENVINO OpenVINO
  "pip install openvino, and set OpenVINO_DIR to the folder `cmake` in the installed package" COMPONENTS Runtime)
skipfold_backend(ORT ONNXRuntime
  "set ONNXRuntime_ROOT to a folder with include/onnxruntime_c_api.h and lib/libonnxruntime.so")
skipfold_backend(TENSORRT TensorRT
  "set TensorRT_ROOT to the folder of an SDK of TensorRT or TensorRT for RTX; the CUDA toolkit is needed, too")

if(NOT SKIPFOLD_WITH_OPENVINO AND NOT SKIPFOLD_WITH_ORT AND NOT SKIPFOLD_WITH_TENSORRT)
  message(FATAL_ERROR "skipfold needs a runtime, and found none of OpenVINO, ONNX Runtime and TensorRT: "
    "the lines above say how to get each.")
endif()
