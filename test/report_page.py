"""A reader of the pages that the package writes."""

from html.parser import HTMLParser
import re

#: Tags that have no end.
VOID = ('meta', 'img', 'br')


class Page(HTMLParser):
    """Checks that every tag is closed, and gathers what a browser would load and show."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.headings, self.ids = [], [], [], []
        self.styles, self.text, self.charts = '', '', 0
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag not in ('script', 'link', 'iframe', 'object', 'base'), tag
        if tag not in VOID:
            self.open.append(tag)
        self.charts += tag == 'svg'
        self.loads += [value for name, value in attrs
                       if name in ('src', 'href', 'srcset', 'xlink:href', 'action', 'poster')]
        self.styles += ''.join(value for name, value in attrs if name == 'style')

    def handle_startendtag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ('src', 'href')]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == 'style':
            self.styles += data
            return
        # As browsers do; no-break spaces stay.
        self.text += re.sub(r'[ \n]+', ' ', data)
        if self.open and self.open[-1] == 'h2':
            self.headings.append(data)

    @property
    def needs_nothing_else(self):
        """Say whether all that the page shows is in it."""
        return (all(url.startswith('data:image/jpeg;base64,') for url in self.loads)
                and not re.search(r'url\(|@import|https?:', self.styles))
