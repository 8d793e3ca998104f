"""For mkdocs: adds the pages outside of `docs/` and the generated one, and adapts the links that lead there."""

import importlib.util
import pathlib
import posixpath
import re
import tomllib

from mkdocs.structure.files import File

_BESIDE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}


def on_config(config):
    """Take the address of the repository from pyproject.toml."""
    root = pathlib.Path(config.config_file_path).parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    config.repo_url, config.repo_name = project["urls"]["Repository"], project["name"]
    return config


def on_files(files, config, **_):
    """Add the pages from the root of the repository, and the reference of the config from its schema."""
    root = pathlib.Path(config.config_file_path).parent
    for name, page in _BESIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(root / name)))
    spec = importlib.util.spec_from_file_location("config_reference", root / "docs" / "config_reference.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    files.append(File.generated(config, "config_reference.md", content=reference.page()))
    return files


def on_page_markdown(markdown, page, config, **_):
    """Adapt the links of a page, which are written for readers of the repository.

    A link to a file that is a page of the site leads to that page. Any other link leads to the file in the repository.
    """
    folder = "" if page.file.src_uri in _BESIDE.values() else "docs"

    def target(link):
        path = posixpath.normpath(posixpath.join(folder, link[1]))
        if path in _BESIDE or path.startswith("docs/"):
            return f"]({_BESIDE.get(path, path.removeprefix('docs/'))}{link[2]})"
        return f"]({config.repo_url}/blob/main/{path})"

    return re.sub(r"\]\(([\w./-]*[./][\w./-]*)((?:#[\w-]+)?)\)", target, markdown)
