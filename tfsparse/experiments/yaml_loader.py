"""YAML of configs, which other people write: what PyYAML would read in silence or fail at is an error with its line."""

import re
import reprlib

import yaml

_MAX_DEPTH, _MAX_VALUES = 50, 10_000


class Loader(yaml.SafeLoader):
    """Loader that reads `1e-3` as a number, as YAML 1.2 does. PyYAML reads a string.

    Raises:
        yaml.MarkedYAMLError: If the text is not YAML, a key is there twice, a value does not fit its tag, or there are
            too many levels or values. An alias counts as often as it is used.
    """

    def __init__(self, stream):
        super().__init__(stream)
        self._depth, self._sizes = 0, {}

    def compose_node(self, parent, index):
        mark, is_alias = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        if self._depth == _MAX_DEPTH:
            raise yaml.composer.ComposerError(problem=f"nested deeper than {_MAX_DEPTH} levels", problem_mark=mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and node not in self._sizes:
            raise yaml.composer.ComposerError(problem="an alias inside of what it stands for", problem_mark=mark)
        self._sizes[node] = size = 1 + sum(self._sizes[inner] for inner in _inner_nodes(node))
        if size > _MAX_VALUES:
            raise yaml.composer.ComposerError(problem=f"more than {_MAX_VALUES:,} values", problem_mark=mark)
        return node

    def compose_mapping_node(self, anchor):
        node, known = super().compose_mapping_node(anchor), set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in known:
                problem = f"the key {key.value!r} is there twice; remove one"
                raise yaml.composer.ComposerError(problem=problem, problem_mark=key.start_mark)
            known.add((key.tag, key.value))
        return node

    def construct_object(self, node, deep=False):
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # PyYAML's constructors raise what the conversion happened to raise
            raise yaml.constructor.ConstructorError(
                problem=f"{reprlib.repr(node.value)} is not a value of {node.tag}", problem_mark=node.start_mark
            ) from error


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _inner_nodes(node):
    if isinstance(node, yaml.MappingNode):
        return [inner for pair in node.value for inner in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
