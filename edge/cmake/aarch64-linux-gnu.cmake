#[[
A toolchain file: cross-compiles for 64-bit ARM under Linux with g++-aarch64-linux-gnu of Debian and Ubuntu.

    cmake -S edge -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=edge/cmake/aarch64-linux-gnu.cmake
          -DONNXRuntime_ROOT=FOLDER -DSKIPFOLD_OPENVINO=OFF

FOLDER has include/ and an aarch64 library in lib/. With QEMU 10 or later CTest runs the tests in an emulator, if
CMAKE_CROSSCOMPILING_EMULATOR is "qemu-aarch64;-cpu;cortex-a76;-L;/usr/aarch64-linux-gnu".
]]
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

# Libraries are looked for here only, because those of this machine are for another CPU. Programs run on this
# machine. Headers of nlohmann-json and doctest are the same for every CPU, so this machine's are used.
set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu ${ONNXRuntime_ROOT} ${TensorRT_ROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE BOTH)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
