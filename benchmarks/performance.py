"""
Measure all that docs/performance.md shows, put the tables into it and draw its picture.

Runs latency.py, throughput.py and startup.py, one after the other; half an hour for three
checkpoints. Best on a machine that has nothing else to do. Needs ROS 2, and matplotlib.

    python benchmarks/performance.py models/*_rig.safetensors resnet34.safetensors
    python benchmarks/performance.py --draw-only
"""

import argparse
import json
from pathlib import Path
import re
import subprocess
import sys

HERE = Path(__file__).parent
DOCS = HERE.parent / 'docs'
PAGE = DOCS / 'performance.md'
MEASURED = DOCS / 'performance.json'
PICTURE = DOCS / 'performance.svg'
SCRIPTS = ('latency', 'throughput', 'startup')
COLOURS = {'baseline': '#888888', 'torch-fp32': '#c6dbef', 'torch-bf16': '#6baed6',
           'openvino-fp32': '#fdd0a2', 'openvino-bf16': '#fd8d3c', 'openvino-int8': '#d94801',
           'opencv-fp32': '#74c476'}


QUICK = {'latency': ['--frames', '60', '--seconds', '3'], 'throughput': ['--seconds', '1'],
         'startup': []}


def run(script: str, checkpoints: list[Path], options: list[str]) -> tuple[str, list[dict]]:
    """Return what a benchmark prints, and what it measured."""
    kept = MEASURED.with_suffix(f'.{script}.json')
    command = [sys.executable, str(HERE / f'{script}.py'), *map(str, checkpoints), *options]
    try:
        done = subprocess.run([*command, '--json', str(kept)], stdout=subprocess.PIPE, text=True,
                              check=True)
        return done.stdout.strip(), json.loads(kept.read_text(encoding='utf-8'))
    finally:
        kept.unlink(missing_ok=True)


def put(page: str, script: str, text: str) -> str:
    """Return the page with another text between the two marks of a script."""
    begin, end = f'<!-- {script}.py -->', f'<!-- end of {script}.py -->'
    page, count = re.subn(f'{begin}.*?{end}', lambda _: f'{begin}\n{text}\n{end}', page,
                          flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f'{PAGE}: expected {begin} and {end} once')
    return page


def draw(measured: dict[str, list[dict]]) -> None:
    """Draw latency, share of the GEMM speed, and start, a row for each checkpoint."""
    import matplotlib

    matplotlib.use('svg')
    matplotlib.rcParams['svg.fonttype'] = 'none'
    matplotlib.rcParams['svg.hashsalt'] = 'performance'  # the same figures, the same file
    from matplotlib import pyplot

    panels = (('latency', 'p50', 'frame to verdict, p50, ms', '{:.1f}'),
              ('throughput', 'share', 'share of the GEMM speed in its precision', '{:.0%}'),
              ('startup', 'next_s', 'start to first verdict, s', '{:.1f}'))
    names = list(dict.fromkeys(row['checkpoint'] for row in measured['latency']))
    figure, rows = pyplot.subplots(len(names), len(panels), squeeze=False, layout='constrained',
                                   figsize=(11, .4 + 1.7 * len(names)))
    for name, axes in zip(names, rows, strict=True):
        for ax, (script, key, title, form) in zip(axes, panels, strict=True):
            found = [row for row in measured[script]
                     if row['checkpoint'] == name and key in row][::-1]
            bars = ax.barh([row['engine'] for row in found], [row[key] for row in found],
                           color=[COLOURS[row['engine']] for row in found])
            ax.bar_label(bars, [form.format(row[key]) for row in found], padding=2, fontsize=8)
            ax.margins(x=.18)
            ax.tick_params(labelsize=8)
            ax.set_xticks([])
            ax.spines[['top', 'right', 'bottom']].set_visible(False)
            ax.set_title(f'{name}: {title}' if ax is axes[0] else title, fontsize=9, loc='left')
    figure.savefig(PICTURE, metadata={'Date': None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoints', type=Path, nargs='*')
    parser.add_argument('--quick', action='store_true', help='few frames, to see that it works')
    parser.add_argument('--draw-only', action='store_true', help=f'from {MEASURED.name}')
    args = parser.parse_args()
    if not args.draw_only:
        if not args.checkpoints:
            parser.error('which checkpoints?')
        page, measured = PAGE.read_text(encoding='utf-8'), {}
        for script in SCRIPTS:
            print(f'{script}.py ...', flush=True)
            text, measured[script] = run(
                script, args.checkpoints, QUICK[script] if args.quick else [])
            page = put(page, script, text)
        PAGE.write_text(page, encoding='utf-8')
        MEASURED.write_text(json.dumps(measured, indent=1) + '\n', encoding='utf-8')
    draw(json.loads(MEASURED.read_text(encoding='utf-8')))
    print(f'{PAGE}, {MEASURED}, {PICTURE}')


if __name__ == '__main__':
    main()
