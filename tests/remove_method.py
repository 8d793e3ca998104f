"""Removes a method from a copy of the repository and tests what is left.

    python tests/remove_method.py dst [arguments of pytest ...]

A method is its folder in `tfsparse/methods/` and its line in `tfsparse/__init__.py`. Nothing else is removed from the
package, so files for it on the TFMOT road and in the experiments must go unused by themselves. The tests of the method
are left out: files that mention its folder or one of its public names, and tests of the pages and notebooks about it.
"""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ("test_site.py", "test_documents.py", "test_notebooks.py", "experiments/test_documented_commands.py")


def removed(method: str, copy: pathlib.Path) -> list[str]:
    """Remove the method from the copy, and return its public names."""
    shutil.rmtree(copy / "tfsparse" / "methods" / method)
    init = copy / "tfsparse" / "__init__.py"
    lines = init.read_text(encoding="utf-8").splitlines(keepends=True)
    own = [line for line in lines if re.match(rf"from tfsparse\.methods\.{method} import ", line)]
    assert len(own) == 1, f"the method is {len(own)} lines in tfsparse/__init__.py"
    init.write_text("".join(line for line in lines if line not in own), encoding="utf-8")
    return [alias.name for alias in ast.parse(own[0]).body[0].names]


def tests_of(method: str, names: list[str], copy: pathlib.Path) -> list[str]:
    """Return the test files that are about the method."""
    any_name = "|".join(names)
    mentions = re.compile(rf"methods[./]{method}\b|\b({any_name})\(|\bimport\b.*\b({any_name})\b|{method}_")
    files = [path.relative_to(copy).as_posix() for path in sorted((copy / "tests").rglob("test_*.py"))]
    own = [file for file in files if mentions.search((copy / file).read_text(encoding="utf-8"))]
    own += [file for file in files if f"/{method}" in file or file.endswith(f"/test_{method}.py")]
    return sorted({*own, *(file for file in files if file.removeprefix("tests/") in PAGES)})


def main(method: str, arguments: list[str]) -> int:
    """Remove a method, import what is left, and run its tests with further arguments of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for file in filter(lambda name: (ROOT / name).is_file(), files.splitlines()):
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, copy / file)
        names = removed(method, copy)
        environment = os.environ | {"PYTHONPATH": str(copy)}
        public = "{*tfsparse.__all__, *tfsparse.tfmot.__all__}"
        program = f"import tfsparse, tfsparse.tfmot; assert not set({names!r}) & {public}"
        subprocess.run([sys.executable, "-c", program], cwd=copy, env=environment, check=True)
        ignored = tests_of(method, names, copy)
        print(f"without {method}: imports; left out: {', '.join(ignored)}", flush=True)
        command = [sys.executable, "-m", "pytest", *[f"--ignore={file}" for file in ignored], *arguments]
        return subprocess.run(command, cwd=copy, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
