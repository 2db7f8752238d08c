#[[
Installation, and the files with which find_package(skipfold) works from the installation prefix and from the build
tree. The modules lie beside the library, where the library looks for them.
]]
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(_package "${CMAKE_INSTALL_LIBDIR}/cmake/skipfold")

install(TARGETS skipfold EXPORT skipfoldTargets LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(TARGETS ${SKIPFOLD_MODULES} LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY include/skipfold DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT skipfoldTargets NAMESPACE skipfold:: DESTINATION "${_package}")

configure_package_config_file(cmake/skipfoldConfig.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/skipfoldConfig.cmake"
  INSTALL_DESTINATION "${_package}")
# The C ABI is numbered by SKF_ABI, which is the SOVERSION. The C++ layer is compiled into the program, and
# before version 1 a minor version may change that layer.
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/skipfoldConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/skipfoldConfig.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/skipfoldConfigVersion.cmake" DESTINATION "${_package}")

export(EXPORT skipfoldTargets NAMESPACE skipfold:: FILE "${CMAKE_CURRENT_BINARY_DIR}/skipfoldTargets.cmake")
