"""Edits of Python code at the places of its syntax tree, which keep line breaks and comments."""

import ast
import io
import itertools
import tokenize
from typing import NamedTuple

_SPACE = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)


class _Edit(NamedTuple):
    start: int
    end: int
    text: str


class Edits:
    """Edits of one source, made all at once by `apply`. Nodes are those of `ast.parse(source)`.

    Args:
        source: Python code.

    Examples:
        >>> edits = Edits("f(x)  # doubles")
        >>> edits.replace(ast.parse("f(x)").body[0].value.func, "g")
        >>> edits.apply()
        'g(x)  # doubles'
    """

    def __init__(self, source: str):
        self.source, self._edits = source, []
        self._lines = [*io.StringIO(source)]
        self._starts = [0, *itertools.accumulate(len(line) for line in self._lines)]
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        self._tokens = [(self._of_token(t.start), self._of_token(t.end), t) for t in tokens if t.type not in _SPACE]

    def apply(self) -> str:
        """Return the source with all edits."""
        text = self.source
        for start, end, new in sorted(self._edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def replace(self, node: ast.AST, text: str) -> None:
        """Replace the code of a node."""
        self._edits.append(_Edit(self._start(node), self._end(node), text))

    def replace_keyword(self, keyword: ast.keyword, name: str) -> None:
        """Give a keyword argument another name."""
        start = self._start(keyword)
        self._edits.append(_Edit(start, start + len(keyword.arg), name))

    def insert_before(self, node: ast.AST, text: str) -> None:
        """Insert code before a node."""
        self._edits.append(_Edit(self._start(node), self._start(node), text))

    def wrap(self, node: ast.AST, before: str, after: str) -> None:
        """Put code around a node."""
        self.insert_before(node, before)
        self._edits.append(_Edit(self._end(node), self._end(node), after))

    def insert_lines_after(self, statement: ast.stmt, lines: list[str]) -> None:
        """Insert lines after a statement, with its indentation."""
        end, indentation = self._end(statement), " " * statement.col_offset
        self._edits.append(_Edit(end, end, "".join(f"\n{indentation}{line}" for line in lines)))

    def append_argument(self, call: ast.Call, text: str) -> None:
        """Add an argument at the end of a call that has others; in a line of its own if they stand so."""
        inside = [(end, token) for _, end, token in self._tokens if end < self._end(call)]
        end, last = inside[-1]
        if last.string != ",":
            self._edits.append(_Edit(end, end, f", {text}"))
        elif last.end[0] == call.end_lineno:
            self._edits.append(_Edit(end, end, f" {text},"))
        else:
            line = self._lines[last.start[0] - 1]
            start, indentation = self._starts[call.end_lineno - 1], line[: len(line) - len(line.lstrip())]
            self._edits.append(_Edit(start, start, f"{indentation}{text},\n"))

    def remove_line(self, statement: ast.stmt) -> None:
        """Remove a statement that stands alone in its lines."""
        self._edits.append(_Edit(self._starts[statement.lineno - 1], self._starts[statement.end_lineno], ""))

    def remove_argument(self, node: ast.AST) -> None:
        """Remove an argument or a base class, with one comma. Comments stay."""
        start, end = self._start(node), self._end(node)
        before = max(token_end for _, token_end, _ in self._tokens if token_end <= start)
        following = [(token_start, token_end, t) for token_start, token_end, t in self._tokens if token_start >= end]
        (_, comma_end, comma), (next_start, _, token) = following[:2]
        if comma.string == "," and token.string != ")":
            between = self.source[comma_end:next_start]
            end = comma_end + between.find("#") if "#" in between else next_start
        elif self.source[before - 1] == "," and not self.source[before:start].strip():
            start = before - 1
        self._edits.append(_Edit(start, end, ""))

    def _of_token(self, position):
        line, column = position
        return self._starts[line - 1] + column

    def _start(self, node):
        return self._offset(node.lineno, node.col_offset)

    def _end(self, node):
        return self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line, column):
        """Return a place in characters: syntax trees count bytes of UTF-8."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())
