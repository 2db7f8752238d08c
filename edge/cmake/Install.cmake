#[[
Installation of the library, and the files with which find_package(skipfold) works from the installation prefix and
from the build tree.

A static library names the runtimes it is linked with, so that its consumer has to find them as well; for that the
installed package carries the Find modules. A shared library has found them already.
]]
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(_packages "${CMAKE_INSTALL_LIBDIR}/cmake/skipfold")

# The runtimes may lie in no standard folder, such as a Python environment.
set_target_properties(skipfold PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS skipfold EXPORT skipfoldTargets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(DIRECTORY "${CMAKE_CURRENT_LIST_DIR}/../include/skipfold" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT skipfoldTargets NAMESPACE skipfold:: DESTINATION "${_packages}")

get_target_property(_type skipfold TYPE)
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/skipfoldConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/skipfoldConfig.cmake" INSTALL_DESTINATION "${_packages}")
# Before version 1 every minor version may change the ABI.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/skipfoldConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/skipfoldConfig.cmake"
  "${PROJECT_BINARY_DIR}/skipfoldConfigVersion.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/FindONNXRuntime.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/FindTensorRT.cmake"
  DESTINATION "${_packages}")

export(EXPORT skipfoldTargets NAMESPACE skipfold:: FILE "${PROJECT_BINARY_DIR}/skipfoldTargets.cmake")
file(COPY "${CMAKE_CURRENT_LIST_DIR}/FindONNXRuntime.cmake" "${CMAKE_CURRENT_LIST_DIR}/FindTensorRT.cmake"
  DESTINATION "${PROJECT_BINARY_DIR}")
