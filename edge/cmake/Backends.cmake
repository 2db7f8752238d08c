#[[
The back ends: which runtimes are compiled, each as a module that the library loads when a bundle needs it.

SKIPFOLD_OPENVINO, SKIPFOLD_ORT and SKIPFOLD_TENSORRT are each
  AUTO  compiled where CMake finds the runtime (the default),
  ON    an error where CMake does not,
  OFF   left out.
SKIPFOLD_MODULES lists the targets of the modules that are compiled.
]]
set(SKIPFOLD_MODULES "" CACHE INTERNAL "The modules of back ends that this build has")

# Finds the runtime of one back end as its option says, and adds the back end's module.
#   name      OPENVINO, ORT or TENSORRT
#   package   what find_package is asked for
#   imported  the target that this package defines
#   install   how a user gets the runtime, for the messages
function(skipfold_backend name package imported install)
  set(SKIPFOLD_${name} AUTO CACHE STRING "The back end for ${package}: AUTO (if found), ON (or fail), OFF")
  set_property(CACHE SKIPFOLD_${name} PROPERTY STRINGS AUTO ON OFF)
  set(wanted "${SKIPFOLD_${name}}")
  if(NOT wanted MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "SKIPFOLD_${name} is ${wanted}, and must be AUTO, ON or OFF.")
  endif()
  if(wanted STREQUAL "OFF")
    message(STATUS "skipfold: ${name} is left out, because SKIPFOLD_${name} is OFF")
    return()
  endif()
  find_package(${package} QUIET)
  if(${package}_FOUND)
    message(STATUS "skipfold: ${name} is compiled with ${package} ${${package}_VERSION}")
    skipfold_module(${name} ${imported} "${${package}_RTX}")
  elseif(wanted STREQUAL "ON")
    message(FATAL_ERROR "SKIPFOLD_${name} is ON, and ${package} was not found: ${install}.")
  else()
    message(STATUS "skipfold: ${name} is left out, because ${package} was not found: ${install}")
  endif()
endfunction()

# Adds the module of a back end, which is compiled from src/backends/<name>.cpp.
#   rtx  whether the TensorRT that was found is TensorRT for RTX
function(skipfold_module name imported rtx)
  string(TOLOWER "${name}" lower)
  if(rtx)
    set(target "skipfold-${lower}-rtx")
  else()
    set(target "skipfold-${lower}")
  endif()
  add_library(${target} MODULE src/backends/${lower}.cpp src/version.cpp)
  target_include_directories(${target} PRIVATE include src)
  target_compile_definitions(${target} PRIVATE $<$<BOOL:${rtx}>:SKF_TENSORRT_RTX>)
  # The folders of the runtimes stay in the installed module, because a runtime may lie in no standard folder,
  # such as a Python environment.
  set_target_properties(${target} PROPERTIES
    LIBRARY_OUTPUT_DIRECTORY "${SKIPFOLD_OUTPUT}"
    INSTALL_RPATH "$ORIGIN"
    INSTALL_RPATH_USE_LINK_PATH ON
    LINK_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/src/module.map")
  target_link_options(${target} PRIVATE "LINKER:--version-script=${CMAKE_CURRENT_SOURCE_DIR}/src/module.map")
  target_link_libraries(${target} PRIVATE skipfold_flags ${imported})
  set(SKIPFOLD_MODULES ${SKIPFOLD_MODULES} ${target} CACHE INTERNAL "")
  # Whoever builds `skipfold` gets its modules, too.
  add_dependencies(skipfold ${target})
endfunction()

skipfold_backend(OPENVINO OpenVINO openvino::runtime
  "pip install openvino, and set OpenVINO_DIR to the folder openvino/cmake of the installed package")
skipfold_backend(ORT ONNXRuntime ONNXRuntime::ONNXRuntime
  "set ONNXRuntime_ROOT to a folder with include/onnxruntime_c_api.h and lib/libonnxruntime.so")
skipfold_backend(TENSORRT TensorRT TensorRT::TensorRT
  "set TensorRT_ROOT to an SDK of TensorRT or TensorRT for RTX; the CUDA toolkit is needed, too")

if(NOT SKIPFOLD_MODULES)
  message(FATAL_ERROR "skipfold needs a runtime, and has none of OpenVINO, ONNX Runtime and TensorRT; "
    "the lines above say why.")
endif()
