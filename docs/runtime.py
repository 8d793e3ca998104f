"""For mkdocstrings: a class whose arguments are declared elsewhere gets its docstring and signature by importing it."""

import importlib
import inspect

import griffe


class DeclaredOptions(griffe.Extension):
    """Fills `{options}` in the docstring of a class, and the signature, which static analysis cannot see."""

    def on_class_members(self, *, cls, **_):
        """Called for each class."""
        if not cls.docstring or "{options}" not in cls.docstring.value:
            return
        runtime = getattr(importlib.import_module(cls.module.path), cls.name)
        cls.docstring.value = inspect.getdoc(runtime)
        parameters = inspect.signature(runtime).parameters.values()
        cls.members["__init__"].parameters = griffe.Parameters(
            *(
                griffe.Parameter(
                    p.name,
                    kind=griffe.ParameterKind[p.kind.name.lower()],
                    default=None if p.default is p.empty else repr(p.default),
                )
                for p in parameters
            )
        )
