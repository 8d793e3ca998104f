"""For mkdocstrings: lines with `>>>` in a docstring are code, also without the heading `Examples:`."""

import re

import griffe


class Examples(griffe.Extension):
    """Puts a fence around the examples of every docstring."""

    def on_object(self, *, obj, **_):
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^>>> .*(?:\n.+)*", r"```pycon\n\g<0>\n```", obj.docstring.value)
