"""The page's example prints what the page shows."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "doctor.md"


def test_the_example_prints_what_is_shown(capsys):
    pairs = r"```python\n((?:(?!```).)*)```\n\n```text\n(.*?)```"
    shown = re.findall(pairs, PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(shown) == 2
    scope = {}
    for code, expected in shown:
        exec(compile(code, "doctor.md", "exec"), scope)
        printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
        assert printed.strip() == expected.strip()
