"""The look of every page that this package writes: one HTML file that loads nothing from afar."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from grasp_success_detector.images.decoding import RgbImage
from grasp_success_detector.images.encoding import encode_jpeg
from grasp_success_detector.labels import Label

#: RGB: blue and orange, which the colour-blind tell apart as well.
LABEL_COLOURS: Final = {Label.SUCCESS: (31, 119, 180), Label.FAILURE: (230, 126, 34)}

_STYLE = """
:root { color-scheme: light dark; %(light)s
  --ink: #1c2126; --soft: #566069; --back: #f5f6f8; --card: #fff; --line: #dde1e6;
  --grid: #eceef1; --good: #2e8540; --bad: #c0392b; --accent: #5648b8; --accent2: #0b7a75;
  --accent3: #b0417f; --accent4: #8a6100; --accent5: #56636f; }
@media (prefers-color-scheme: dark) { :root { %(dark)s
  --ink: #e6e9ec; --soft: #a2abb4; --back: #14171a; --card: #1c2024; --line: #343b42;
  --grid: #2a3036; --good: #5fbf77; --bad: #f0806f; --accent: #a79cf5; --accent2: #4cc4bb;
  --accent3: #f08cc0; --accent4: #e0b450; --accent5: #aab4bf; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  margin: 0; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 12px; } h3 { font-size: 15px; margin: 0 0 6px; }
p { margin: 0 0 10px; } .soft { color: var(--soft); } .small { font-size: 13px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin-top: 18px; }
section > h2 + p { color: var(--soft); margin: -8px 0 14px; max-width: 80ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin-top: 18px; }
@media (max-width: 1000px) { .cards.three { grid-template-columns: repeat(3, 1fr); } }
@media (max-width: 560px) { .cards.three { grid-template-columns: repeat(2, 1fr); } }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 16px; }
.card b { display: block; font-size: 24px; font-weight: 600; line-height: 1.3; }
.card svg { width: 100%%; max-width: 150px; height: auto; display: block; margin-top: 6px; }
.card div + b { margin-top: 10px; }
.badge { display: inline-block; border: 1px solid var(--accent4); color: var(--accent4);
  border-radius: 20px; padding: 1px 11px; font-size: 13px; font-weight: 600; }
.verdict { border-left: 6px solid var(--good); } .verdict.bad { border-left-color: var(--bad); }
table { border-collapse: collapse; width: 100%%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
td:first-child, tbody th { overflow-wrap: anywhere; }
th { font-weight: 600; color: var(--soft); font-size: 13px; }
tbody th { color: var(--ink); font-size: inherit; font-weight: 400; }
td small { color: var(--soft); font-size: 13px; display: block; white-space: nowrap; }
.bar { display: flex; height: 10px; min-width: 120px; border-radius: 3px; overflow: hidden; }
.bar i { background: var(--success); } .bar i + i { background: var(--failure); }
.scroll { max-height: 420px; overflow: auto; } .wide { overflow-x: auto; }
.wide + .wide { margin-top: 18px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 22px; }
.charts.two { grid-template-columns: repeat(2, minmax(0, 1fr)); }
@media (max-width: 700px) { .charts.two { grid-template-columns: minmax(0, 1fr); } }
.charts > div { min-width: 0; }
.charts svg { width: 100%%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
@media (max-width: 900px) { .charts.two svg text { font-size: 13px; }
  th, td { padding: 5px 6px; } }
svg text.value { fill: var(--ink); font-weight: 600; }
.key { font-size: 13px; color: var(--soft); display: flex; flex-wrap: wrap; gap: 2px 16px;
  margin: 4px 0 6px; }
.key span { display: inline-flex; align-items: center; gap: 6px; }
.key i { width: 12px; height: 12px; border-radius: 3px; flex: none; }
.key i.line { height: 0; width: 20px; border-top: 3px solid; border-radius: 0; }
.key i.dashed { border-top-style: dashed; }
.confusion { width: 100%%; table-layout: fixed; }
.confusion td, .confusion th { text-align: center; border: 2px solid var(--card);
  padding: 9px 6px; }
.confusion td { border-radius: 8px; background: color-mix(in srgb,
  var(--shade) calc(var(--share) * 55%%), var(--grid)); }
.confusion td b { font-size: 18px; }
.confusion td small, .confusion td:first-child { text-align: center; }
.confusion td small { color: var(--ink); }
.confusion tbody th { text-align: left; color: var(--soft); font-size: 13px; }
.frames { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 14px; }
.frames.large { grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); margin-top: 10px; }
figure { margin: 0; min-width: 0; } figure img { width: 100%%; display: block; border-radius: 5px;
  border-bottom: 4px solid; }
figure .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 3px; }
figcaption { font-size: 12px; color: var(--soft); overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
figcaption b { color: var(--ink); font-size: 13px; }
.timeline { border-top: 1px solid var(--line); padding-top: 12px; margin-top: 18px; }
.timeline h3 span { font-weight: 400; }
.timeline svg { width: 100%%; height: auto; display: block; }
.timeline .strip { display: grid; gap: 3px; margin: 6px 2.1%% 4px 5.6%%; }
.timeline .strip img { width: 100%%; display: block; border-radius: 3px;
  border-bottom: 3px solid var(--line); }
@media (max-width: 900px) { .timeline svg text { font-size: 14px; } }
details { margin-top: 10px; } summary { cursor: pointer; font-weight: 600; }
details > :not(summary) { margin-top: 8px; }
code, pre { font-size: 13px; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; margin: 0; }
.columns { columns: 3 220px; }
.split { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 22px; }
@media (max-width: 560px) { main { padding: 18px 10px 40px; } section { padding: 14px 12px; } }
@media print { body { background: none; } section { break-inside: avoid; } }
"""


def page(title: str, *parts: str) -> str:
    """Return a whole page; ``parts`` are HTML, the title is not."""
    style = _STYLE % {
        'light': ' '.join(f'--{label.name.lower()}: {_hex(rgb)};'
                          for label, rgb in LABEL_COLOURS.items()),
        # Lighter on dark ground, as thin lines would be lost there.
        'dark': ' '.join(f'--{label.name.lower()}: {_hex([(2 * c + 255) // 3 for c in rgb])};'
                         for label, rgb in LABEL_COLOURS.items())}
    return '\n'.join([
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{escape(title)}</title><style>{style}</style></head><body><main>',
        *filter(None, parts), '</main></body></html>', ''])


def section(title: str, explanation: str, *parts: str) -> str:
    """Return a section; title and explanation are plain text, the parts are HTML."""
    about = f'<p>{escape(explanation)}</p>' if explanation else ''
    return f'<section><h2>{escape(title)}</h2>{about}{"".join(parts)}</section>'


def cards(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return headline numbers: value, what it is (both plain text), more HTML below."""
    shown = [f'<div class="card"><b>{escape(value)}</b>{escape(name)}{more}</div>'
             for value, name, more in entries]
    # Rows of three, where six do not fit side by side, leave no gap.
    return (f'<div class="cards{"" if len(shown) % 3 else " three"}">{"".join(shown)}</div>')


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of HTML cells; the first cell of a row names it. The head may be empty."""
    top = ''.join(f'<th scope="col">{cell}</th>' for cell in head)
    return ('<div class="wide"><table>' + (f'<thead><tr>{top}</tr></thead>' if top else '')
            + '<tbody>'
            + ''.join(f'<tr><th scope="row">{first}</th>'
                      + ''.join(f'<td>{cell}</td>' for cell in cells) + '</tr>'
                      for first, *cells in rows) + '</tbody></table></div>')


def label_colour(label: Label) -> str:
    """Return the CSS colour of a label, which follows the light or dark theme."""
    return f'var(--{label.name.lower()})'


def image(rgb: RgbImage, alternative: str, label: Label | None, quality: int = 85) -> str:
    """Return a picture that is part of the page, underlined in the colour of its label, if any."""
    data = b64encode(encode_jpeg(rgb, quality)).decode()
    colour = '' if label is None else f' style="border-color:{label_colour(label)}"'
    return f'<img alt="{escape(alternative)}"{colour} src="data:image/jpeg;base64,{data}">'


def label_key(unknown: bool = False) -> str:
    """
    Say which colour is which label.

    :param unknown: and which is no verdict.
    """
    colours = [(label_colour(label), label.name.lower()) for label in reversed(Label)]
    colours += [('var(--line)', 'unknown')] if unknown else []
    return '<div class="key">' + ''.join(
        f'<span><i style="background:{colour}"></i>{name}</span>'
        for colour, name in colours) + '</div>'


def _hex(rgb: Sequence[int]) -> str:
    return '#{:02x}{:02x}{:02x}'.format(*rgb)
