#[[
FindTensorRT: NVIDIA TensorRT or TensorRT for RTX with the CUDA runtime, as the target TensorRT::TensorRT.

Both products install a header NvInfer.h, and only their versions' macros tell them apart: NvInferVersion.h of
TensorRT for RTX defines TRT_MAJOR_RTX. Their plans are not interchangeable, so a program is compiled for one of
them. Set TensorRT_ROOT to the folder of an SDK with include/ and lib/.

Result variables:
  TensorRT_FOUND    header, library and the CUDA runtime were found
  TensorRT_RTX      TRUE for TensorRT for RTX
  TensorRT_VERSION  major.minor of the headers, such as 10.13, or 1.7 for RTX
  TensorRT_INCLUDE_DIR, TensorRT_LIBRARY
]]
find_path(TensorRT_INCLUDE_DIR NvInfer.h)

set(TensorRT_RTX FALSE)
if(TensorRT_INCLUDE_DIR AND EXISTS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h")
  file(STRINGS "${TensorRT_INCLUDE_DIR}/NvInferVersion.h" _version_lines
       REGEX "^[ \t]*#[ \t]*define[ \t]+(NV_TENSORRT|TRT)_(MAJOR|MINOR)")
  if(_version_lines MATCHES "TRT_MAJOR_RTX[ \t]+([0-9]+)")
    set(TensorRT_RTX TRUE)
    set(TensorRT_VERSION "${CMAKE_MATCH_1}")
    if(_version_lines MATCHES "TRT_MINOR_RTX[ \t]+([0-9]+)")
      string(APPEND TensorRT_VERSION ".${CMAKE_MATCH_1}")
    endif()
  # TensorRT 10.9 and later write NV_TENSORRT_MAJOR through TRT_MAJOR_ENTERPRISE.
  elseif(_version_lines MATCHES "(NV_TENSORRT_MAJOR|TRT_MAJOR_ENTERPRISE)[ \t]+([0-9]+)")
    set(TensorRT_VERSION "${CMAKE_MATCH_2}")
    if(_version_lines MATCHES "(NV_TENSORRT_MINOR|TRT_MINOR_ENTERPRISE)[ \t]+([0-9]+)")
      string(APPEND TensorRT_VERSION ".${CMAKE_MATCH_2}")
    endif()
  endif()
  unset(_version_lines)
endif()

if(TensorRT_RTX)
  # The wheel has only the file with the major version.
  find_library(TensorRT_LIBRARY NAMES tensorrt_rtx libtensorrt_rtx.so.1)
else()
  find_library(TensorRT_LIBRARY NAMES nvinfer libnvinfer.so.11 libnvinfer.so.10 nvinfer_11 nvinfer_10)
endif()
find_package(CUDAToolkit QUIET)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT
  REQUIRED_VARS TensorRT_LIBRARY TensorRT_INCLUDE_DIR CUDAToolkit_FOUND
  VERSION_VAR TensorRT_VERSION)
mark_as_advanced(TensorRT_INCLUDE_DIR TensorRT_LIBRARY)

if(TensorRT_FOUND AND NOT TARGET TensorRT::TensorRT)
  add_library(TensorRT::TensorRT SHARED IMPORTED)
  set_target_properties(TensorRT::TensorRT PROPERTIES
    IMPORTED_LOCATION "${TensorRT_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${TensorRT_INCLUDE_DIR}"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${TensorRT_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES CUDA::cudart)
endif()
