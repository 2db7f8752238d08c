# find_package(skipfold) from the sources: skipfold::skipfold is compiled in the build tree of the project
# that asks.
#     cmake … -Dskipfold_DIR="$(skipfold sdk --cmake-dir)"
# The options SKIPFOLD_OPENVINO, SKIPFOLD_ORT and SKIPFOLD_TENSORRT choose the runtimes (../Backends.cmake).
if(NOT TARGET skipfold::skipfold)
  add_subdirectory("${CMAKE_CURRENT_LIST_DIR}/../.." "${CMAKE_BINARY_DIR}/skipfold")
endif()
