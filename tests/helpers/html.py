"""Checks that a page's tags are properly nested."""

import html.parser


class Balanced(html.parser.HTMLParser):
    """Collects open tags and all ids; a tag closed out of order is an error."""

    EMPTY = ("meta", "link", "br", "img")

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
