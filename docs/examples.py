"""For mkdocstrings: what follows `>>>` in a docstring is code, also where no heading says so."""

import re

import griffe


class Examples(griffe.Extension):
    """Puts a fence around the examples of every docstring."""

    def on_object(self, *, obj, **_):
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^>>> .*(?:\n.+)*", r"```pycon\n\g<0>\n```", obj.docstring.value)
