"""The builds of edge/ that `make edge` tests: two compilers, and the sanitizers.

Every build compiles with -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror. Both back ends are required,
so that a missing runtime is an error and no build is smaller than it looks.
"""

from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

from tools.edge.steps import ROOT, run

SOURCES = ROOT / "edge"
EVERYTHING = ("-DSKIPFOLD_BUILD_TESTS=ON", "-DSKIPFOLD_BUILD_APPS=ON", "-DSKIPFOLD_WERROR=ON")
BOTH_BACK_ENDS = ("-DSKIPFOLD_OPENVINO=ON", "-DSKIPFOLD_ORT=ON")


@dataclass(frozen=True)
class Build:
    """One build.

    Attributes:
        name: its folder in the work folder.
        options: for CMake.
        targets: what is compiled; empty for everything.
        tests: the regular expression of the tests that run; empty for all.
        environment: variables for the tests.
    """

    name: str
    options: tuple[str, ...]
    targets: tuple[str, ...] = ()
    tests: str = ""
    environment: dict[str, str] = field(default_factory=dict)


def _compilers(c: str, cpp: str) -> tuple[str, str]:
    # CMake takes a name without its folder for a change of compiler when a build tree is configured again.
    return f"-DCMAKE_C_COMPILER={which(c) or c}", f"-DCMAKE_CXX_COMPILER={which(cpp) or cpp}"


GCC = Build("gcc", (*_compilers("gcc", "g++"), *BOTH_BACK_ENDS))
CLANG = Build("clang", (*_compilers("clang", "clang++"), *BOTH_BACK_ENDS))
SANITIZED = Build(
    "sanitized",
    (
        *_compilers("clang", "clang++"), *BOTH_BACK_ENDS,
        "-DSKIPFOLD_SANITIZE=address,undefined,fuzzer-no-link", "-DSKIPFOLD_BUILD_FUZZERS=ON",
    ),
    environment={
        # TBB, which OpenVINO brings, loads its allocator with RTLD_DEEPBIND unless this is set, and
        # AddressSanitizer ends a program that does.
        "TBB_ENABLE_SANITIZERS": "1",
        "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
        "LSAN_OPTIONS": f"suppressions={SOURCES / 'tests/leaks_of_runtimes.txt'}:print_suppressions=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    },
)  # fmt: skip
# The runtimes are not compiled with ThreadSanitizer, which would report their own locks as races. The tests
# of the library's own code have a stand-in for a runtime.
THREADS = Build(
    "threads",
    (*_compilers("gcc", "g++"), *BOTH_BACK_ENDS, "-DSKIPFOLD_SANITIZE=thread", "-DSKIPFOLD_BUILD_APPS=OFF"),
    targets=("unit_tests",),
    tests="^unit_tests$",
    environment={"TSAN_OPTIONS": "halt_on_error=1"},
)
BUILDS = (GCC, CLANG, SANITIZED, THREADS)


def build_and_test(build: Build, work: Path) -> str:
    """Configure, compile and test one build, and return CTest's last lines."""
    compile_build(build, work)
    return ctest_line(run_tests(build, work))


def compile_build(build: Build, work: Path) -> None:
    """Configure and compile one build."""
    folder = work / build.name
    configure(SOURCES, folder, work, build.options)
    targets = [f"--target={target}" for target in build.targets]
    run(["cmake", "--build", folder, *targets], work / f"{build.name}.build.log")


def run_tests(build: Build, work: Path) -> str:
    """Run the tests of a build that is compiled, and return what CTest printed."""
    only = ["--tests-regex", build.tests] if build.tests else []
    command = ["ctest", "--test-dir", work / build.name, "--output-on-failure", "--no-tests=error", *only]
    return run(command, work / f"{build.name}.test.log", build.environment)


def ctest_line(printed: str) -> str:
    """The line in which CTest says how many tests passed."""
    return next(line for line in printed.splitlines() if "tests passed" in line)


def configure(sources: Path, folder: Path, work: Path, options: tuple[str, ...]) -> None:
    """Configure a CMake project with what `tools.edge.dependencies` has laid out."""
    fixed = [
        *EVERYTHING,
        f"-DSKIPFOLD_TEST_BUNDLE={work / 'bundle'}",
        f"-DSKIPFOLD_TEST_FIXTURES={work / 'fixtures'}",
    ]
    command = ["cmake", "-C", work / "dependencies.cmake", "-G", "Ninja", "-S", sources, "-B", folder]
    run([*command, *fixed, *options], work / f"{folder.name}.configure.log")
