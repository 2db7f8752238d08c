# The version of the sources, which stands in their CMakeLists.txt; before version 1 every minor version may
# change the ABI.
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/../../CMakeLists.txt" _line REGEX "^project\\(skipfold VERSION")
string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" PACKAGE_VERSION "${_line}")
unset(_line)
if(PACKAGE_VERSION MATCHES "^${PACKAGE_FIND_VERSION_MAJOR}\\.${PACKAGE_FIND_VERSION_MINOR}\\."
    AND PACKAGE_VERSION VERSION_GREATER_EQUAL PACKAGE_FIND_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
