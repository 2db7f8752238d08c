#[[
FindONNXRuntime: the C API of ONNX Runtime, as the target ONNXRuntime::ONNXRuntime.

The configuration that ONNX Runtime installs itself is not used, because the one of its release archives names
folders that the archives do not have (microsoft/onnxruntime issue 24724). Set ONNXRuntime_ROOT to a folder with
include/ and lib/.

Result variables:
  ONNXRuntime_FOUND        header and library were found
  ONNXRuntime_VERSION      of the library, as its file name tells; may be empty
  ONNXRuntime_API_VERSION  the API version of the header, such as 21; the library must be as new or newer, which a
                           program finds out when it asks the library for that version
  ONNXRuntime_INCLUDE_DIR, ONNXRuntime_LIBRARY
]]
find_path(ONNXRuntime_INCLUDE_DIR onnxruntime_c_api.h PATH_SUFFIXES onnxruntime onnxruntime/core/session)
# A wheel has no file libonnxruntime.so, only the one with the version.
find_library(ONNXRuntime_LIBRARY NAMES onnxruntime libonnxruntime.so.1)

if(ONNXRuntime_INCLUDE_DIR)
  file(STRINGS "${ONNXRuntime_INCLUDE_DIR}/onnxruntime_c_api.h" _version_line
       REGEX "^#define ORT_API_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+" ONNXRuntime_API_VERSION "${_version_line}")
  unset(_version_line)
endif()

if(ONNXRuntime_LIBRARY)
  get_filename_component(_library "${ONNXRuntime_LIBRARY}" REALPATH)
  string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+$" ONNXRuntime_VERSION "${_library}")
  unset(_library)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ONNXRuntime
  REQUIRED_VARS ONNXRuntime_LIBRARY ONNXRuntime_INCLUDE_DIR)
mark_as_advanced(ONNXRuntime_INCLUDE_DIR ONNXRuntime_LIBRARY)

if(ONNXRuntime_FOUND AND NOT TARGET ONNXRuntime::ONNXRuntime)
  add_library(ONNXRuntime::ONNXRuntime SHARED IMPORTED)
  # SYSTEM headers: the warnings that skipfold is compiled with are about skipfold's own code.
  set_target_properties(ONNXRuntime::ONNXRuntime PROPERTIES
    IMPORTED_LOCATION "${ONNXRuntime_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${ONNXRuntime_INCLUDE_DIR}"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${ONNXRuntime_INCLUDE_DIR}")
endif()
