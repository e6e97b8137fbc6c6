// One attempt of a recording: the frame, its curve of P(success), a strip of frames, all attempts.

import {pictureUrl, preload} from './api.js';
import {button, CLASSES, drawing, element, markOf, NAMES, percent, runs} from './dom.js';

const PLOT = {top: 4, height: 52, band: 60, bandHeight: 10, labels: 86};
const THUMBNAIL = 92;

export class AttemptView {
  constructor(app, root) {
    this.app = app;
    this.root = root;
    this.playing = null;
    this.title = element('div', {class: 'title'});
    this.image = element('img', {alt: ''});
    this.now = element('div', {class: 'now'});
    this.broken = element('div', {class: 'broken'}, 'this frame cannot be decoded');
    this.stage = element('div', {class: 'stage'}, this.image, this.broken, this.now);
    this.svg = drawing('svg');
    this.timeline = element('div', {class: 'timeline', onclick: (event) => this.goTo(event)}, this.svg);
    this.strip = element('div', {class: 'strip'});
    this.map = element('div', {class: 'map', onclick: (event) => this.choose(event)});
    this.actions = element('div', {class: 'actions'},
      button('s', 'success from here', 's', () => app.press('s')),
      button('f', 'failure from here', 'f', () => app.press('f')),
      button('u', 'leave out', '', () => app.press('u')),
      button('↵', 'next', '', () => app.press('Enter')),
      element('span', {class: 'gap'}),
      button('c', 'cut here', '', () => app.press('c')),
      button('b', 'begins here', '', () => app.press('b')),
      button('e', 'ends here', '', () => app.press('e')),
      button('j', 'join', '', () => app.press('j')));
    this.image.addEventListener('error', () => this.showBroken(true));
    this.image.addEventListener('load', () => this.showBroken(false));
    root.replaceChildren(this.title, this.stage, this.timeline, this.strip, this.actions, this.map);
    this.resize = new ResizeObserver(() => this.render());
    this.resize.observe(this.timeline);
  }

  close() {
    this.stop();
    this.resize.disconnect();
  }

  showBroken(broken) {
    this.image.hidden = broken;
    this.broken.hidden = !broken;
  }

  get at() { return this.app.at; }
  get source() { return this.app.state.sources[this.at.source]; }
  get times() { return this.app.sources[this.at.source].times; }

  render() {
    if (!this.at || !this.root.contains(this.title)) return;
    this.renderTitle();
    this.renderTimeline();
    this.renderStrip();
    this.renderMap();
    this.renderFrame();
  }

  renderTitle() {
    const {source, start, end} = this.at;
    const facts = this.app.sources[source];
    const number = this.source.starts.indexOf(start) + 1;
    const suggestion = this.source.suggestions[start];
    let chip = element('span', {class: 'chip suggestion'}, this.app.state.judging.failure
      ? 'no suggestion' : 'suggestion follows …');
    if (suggestion) {
      const [mark, frame, p] = suggestion;
      const from = mark === 's' ? ` from ${(this.times[frame] - this.times[start]).toFixed(2)} s` : '';
      chip = element('span', {class: `chip suggestion ${mark}`,
        title: 'what the checkpoint would say; it is no label'},
        `suggested: ${NAMES[mark]}${from} · P ${p.toFixed(2)}`);
    }
    this.title.replaceChildren(
      element('h1', {}, `Attempt ${number} of ${this.source.starts.length}`),
      element('span', {class: 'soft name', title: facts.path}, facts.name),
      element('span', {class: 'soft small'},
        `${(this.times[end - 1] - this.times[start]).toFixed(1)} s, ${end - start} frames`),
      element('span', {class: 'soft small', title: 'how the recording was cut into attempts'},
        `cut by ${this.source.how || 'hand'}`),
      chip);
  }

  // Horizontal position of a frame, in pixels.
  x(frame) {
    const {start, end} = this.at;
    const first = this.times[start];
    const length = this.times[end - 1] - first;
    const share = length > 0 ? (this.times[Math.min(frame, end - 1)] - first) / length : .5;
    return share * this.width;
  }

  get width() { return Math.max(this.timeline.clientWidth, 100); }

  renderTimeline() {
    const {start, end} = this.at;
    const {marks, curve} = this.source;
    const y = (p) => PLOT.top + (1 - p) * PLOT.height;
    const parts = [drawing('rect', {class: 'plot', x: 0, y: PLOT.top, width: this.width,
      height: PLOT.height, rx: 3})];
    const threshold = y(this.app.state.threshold);
    parts.push(drawing('line', {class: 'threshold', x1: 0, x2: this.width, y1: threshold, y2: threshold}));
    const points = Object.entries(curve).map(([frame, p]) => [Number(frame), p])
      .filter(([frame, p]) => frame >= start && frame < end && p !== null)
      .map(([frame, p]) => [this.x(frame), y(p)]);
    parts.push(drawing('polyline', {class: 'curve', points: points.map((p) => p.join()).join(' ')}));
    parts.push(...points.map(([cx, cy]) => drawing('circle', {class: 'point', cx, cy, r: 2.5})));
    for (const [mark, from, to] of runs(marks, start, end)) {
      const left = this.x(from);
      const right = to < end ? this.x(to) : this.width;
      parts.push(drawing('rect', {class: CLASSES[mark], x: left, y: PLOT.band,
        width: Math.max(right - left, 2), height: PLOT.bandHeight}));
    }
    const suggestion = this.source.suggestions[start];
    if (suggestion && suggestion[0] === 's') {
      const x = this.x(suggestion[1]);
      parts.push(drawing('line', {class: 'suggested', x1: x, x2: x, y1: PLOT.top, y2: PLOT.band}));
    }
    this.cursor = drawing('line', {class: 'cursor', y1: 0, y2: PLOT.band + PLOT.bandHeight + 3});
    parts.push(this.cursor, drawing('text', {class: 'name', x: 6, y: PLOT.top + PLOT.height - 8}, 'P(success)'),
      ...this.ticks());
    this.svg.replaceChildren(...parts);
  }

  ticks() {
    const length = this.times[this.at.end - 1] - this.times[this.at.start];
    if (!(length > 0)) return [];
    const step = [.1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 600, 3600].find((s) => length / s <= 10) || length;
    const found = [];
    for (let t = 0; t <= length + 1e-6; t += step) {
      const x = t / length * this.width;
      found.push(drawing('text', {x, y: PLOT.labels, 'text-anchor':
        t === 0 ? 'start' : x > this.width - 20 ? 'end' : 'middle'}, `${Number(t.toFixed(2))} s`));
    }
    return found;
  }

  renderStrip() {
    const {source, start, end} = this.at;
    const count = Math.max(1, Math.min(Math.floor(this.width / THUMBNAIL), end - start));
    const frames = [];
    for (let slot = 0; slot < count; slot++) {
      const frame = this.frameAt((slot + .5) / count);
      if (frames[frames.length - 1] !== frame) frames.push(frame);
    }
    const wanted = `${source}/${frames.join()}/${end}`;
    if (this.strip.dataset.of !== wanted) {
      this.strip.dataset.of = wanted;
      this.strip.replaceChildren(...frames.map((frame) => element('img', {
        src: pictureUrl(source, frame, 'small'), alt: `frame ${frame - start + 1}`,
        'data-frame': frame, draggable: 'false', onclick: () => this.app.goTo(frame)})));
    }
    const nearest = frames.reduce((best, frame) =>
      Math.abs(frame - this.at.frame) < Math.abs(best - this.at.frame) ? frame : best, frames[0]);
    for (const image of this.strip.children) {
      const frame = Number(image.dataset.frame);
      image.className = CLASSES[this.source.marks[frame]] + (frame === nearest ? ' current' : '');
    }
  }

  // The frame at a share of the attempt's time.
  frameAt(share) {
    const {start, end} = this.at;
    const time = this.times[start] + share * (this.times[end - 1] - this.times[start]);
    let low = start;
    let high = end - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] < time) low = middle + 1;
      else high = middle;
    }
    return low > start && time - this.times[low - 1] < this.times[low] - time ? low - 1 : low;
  }

  renderMap() {
    const cells = [];
    this.app.state.sources.forEach((source, number) => {
      if (number) cells.push(['end']);
      source.starts.forEach((start, i) => {
        const end = i + 1 < source.starts.length ? source.starts[i + 1] : source.marks.length;
        const mark = markOf(source.marks, start, end);
        const here = number === this.at.source && start === this.at.start;
        cells.push([CLASSES[mark] + (here ? ' current' : ''), `${number}/${start}`,
          `attempt ${i + 1}: ${NAMES[mark]}`]);
      });
    });
    while (this.map.children.length > cells.length) this.map.lastChild.remove();
    cells.forEach(([kind, where, title], i) => {
      let cell = this.map.children[i];
      if (!cell) this.map.append(cell = element('i'));
      if (cell.className !== kind) {
        cell.className = kind;
        if (kind.includes('current')) cell.scrollIntoView({block: 'nearest'});
      }
      cell.dataset.where = where || '';
      cell.title = title || '';
    });
  }

  renderFrame() {
    const {source, start, end, frame} = this.at;
    const url = pictureUrl(source, frame);
    if (this.image.getAttribute('src') !== url) this.image.src = url;
    for (const near of [frame + 1, frame + 2, frame + 3, frame - 1]) {
      if (near >= start && near < end) preload(pictureUrl(source, near));
    }
    const p = this.source.curve[frame];
    this.now.textContent = `frame ${frame - start + 1} of ${end - start} · ` +
      `${(this.times[frame] - this.times[start]).toFixed(2)} s` +
      (p === undefined || p === null ? '' : ` · P(success) ${percent(p)}`);
    const mark = this.source.marks[frame];
    this.stage.className = `stage ${CLASSES[mark]}`;
    const x = this.x(frame);
    this.cursor.setAttribute('x1', x);
    this.cursor.setAttribute('x2', x);
  }

  goTo(event) {
    const box = this.timeline.getBoundingClientRect();
    this.app.goTo(this.frameAt(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))));
  }

  choose(event) {
    if (!event.target.dataset.where) return;
    const [source, start] = event.target.dataset.where.split('/').map(Number);
    this.app.enter(source, start);
  }

  // Keys that only move; others are the app's.
  move(key, shift) {
    const {start, end, frame} = this.at;
    const step = shift ? 10 : 1;
    const to = {ArrowLeft: frame - step, ArrowRight: frame + step, ArrowUp: frame - 10,
      ArrowDown: frame + 10, Home: start, End: end - 1}[key];
    if (to === undefined) return false;
    this.stop();
    this.app.goTo(Math.min(end - 1, Math.max(start, to)));
    return true;
  }

  space() {
    if (this.playing) this.stop();
    else {
      if (this.at.frame >= this.at.end - 1) this.app.goTo(this.at.start);
      this.playing = {};
      this.play(this.playing);
    }
  }

  stop() { this.playing = null; }

  async play(round) {
    while (this.playing === round && this.at.frame < this.at.end - 1) {
      const {source, frame} = this.at;
      const pause = Math.min(1, this.times[frame + 1] - this.times[frame]) * 1000;
      const ready = preload(pictureUrl(source, frame + 1)).decode().catch(() => {});
      await Promise.all([ready, new Promise((done) => setTimeout(done, pause))]);
      if (this.playing !== round || this.at.frame !== frame) break;
      this.app.goTo(frame + 1);
    }
    if (this.playing === round) this.stop();
  }
}
