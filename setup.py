"""Builds the Cython extensions; everything else about the package stands in pyproject.toml.

OpenMP is used when the compiler has it. Without it the extensions are built serial: same results, one thread.
``MFVDM_NO_OPENMP=1`` asks for the serial build.
"""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PROBE = """
#include <omp.h>
int main(void) { return omp_get_max_threads() < 1; }
"""
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
}


class BuildExtensions(build_ext):
    """``build_ext`` that compiles and links a small OpenMP program first, and says what it found."""

    def build_extensions(self) -> None:
        flags = self.openmp_flags()
        for extension in self.extensions:
            extension.extra_compile_args += ["-O3", *flags]
            extension.extra_link_args += flags
        super().build_extensions()

    def openmp_flags(self) -> list[str]:
        if os.environ.get("MFVDM_NO_OPENMP", "") not in ("", "0"):
            print("mfvdm_fast: MFVDM_NO_OPENMP is set; building the extensions serial.", file=sys.stderr)
            return []
        flags = ["-fopenmp"]
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(PROBE)
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=flags)
            except Exception as error:  # distutils and setuptools each have their own family of errors
                compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
                print(
                    f"mfvdm_fast: the C compiler ({os.environ.get('CC', compiler)}) cannot build an OpenMP program "
                    f"({error}); building the extensions serial. Results are the same, on one thread. "
                    "For threads install a compiler with OpenMP (gcc has it; clang needs libomp) and install again.",
                    file=sys.stderr,
                )
                return []
        return flags


setup(
    ext_modules=cythonize(
        [Extension(f"mfvdm_fast.ext.{name}", [f"ext/{name}.pyx"]) for name in ("hermitian", "pattern")],
        compiler_directives=DIRECTIVES,
        include_path=["."],
    ),
    cmdclass={"build_ext": BuildExtensions},
)
