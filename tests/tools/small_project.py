"""A stand-in for llama.cpp that builds in a second: the same targets, each a few lines of C++."""

from __future__ import annotations

from pathlib import Path

from llamacpp_pipeline.toolchain.flags import TARGETS
from llamacpp_pipeline.toolchain.places import Places

CMAKE = """\
cmake_minimum_required(VERSION 3.14...3.28)
project(small C CXX)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
foreach(name %s)
  add_executable(${name} main.cpp)
  target_compile_definitions(${name} PRIVATE COMMIT="${LLAMA_BUILD_COMMIT}")
endforeach()
"""
MAIN = """\
#include <cstdio>
int main() {
    std::printf("commit %s of %s\\n", COMMIT, __FILE__);
    return 0;
}
"""
PATCH = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: someone <someone@localhost>
Date: Sat, 21 Nov 2026 00:00:00 +0000
Subject: [PATCH] main : say that it is patched

diff --git a/main.cpp b/main.cpp
index 05ec1b6c3a1c2fa5c2e0fd2a1bca45c4b4eb64d1..d3dd01c0e9fe2c5e5ff3c8f4a3d0d2ac4e1a7b3e 100644
--- a/main.cpp
+++ b/main.cpp
@@ -1,5 +1,6 @@
 #include <cstdio>
 int main() {
+    std::printf("patched\\n");
     std::printf("commit %s of %s\\n", COMMIT, __FILE__);
     return 0;
 }
"""


def small_project(folder: Path) -> Path:
    """The source of such a project, with what the converter's id wants to see."""
    folder.mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text(CMAKE % " ".join(TARGETS), encoding="utf-8")
    (folder / "main.cpp").write_text(MAIN, encoding="utf-8")
    (folder / "convert_hf_to_gguf.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    return folder


def series(folder: Path, **patches: str) -> Path:
    """A folder of patches in that order."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in patches.items():
        (folder / f"{name}.patch").write_text(text, encoding="utf-8")
    listed = "".join(f"{name}.patch\n" for name in patches)
    (folder / "series").write_text(listed, encoding="utf-8")
    return folder


def small_places(folder: Path) -> Places:
    """A cache of its own, and one patch that applies."""
    return Places(
        sources=folder / "cache" / "sources",
        builds=folder / "cache" / "builds",
        memos=folder / "cache" / "memos",
        submodule=folder / "vendor",
        patches=series(folder / "patches", patched=PATCH),
    )
