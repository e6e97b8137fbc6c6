// A folder of pictures: a grid, a page of them at a time, the doubtful ones first.

import {pictureUrl} from './api.js';
import {button, CLASSES, element, percent} from './dom.js';

const PER_PAGE = 48;

export class GridView {
  constructor(app, root) {
    this.app = app;
    this.root = root;
    this.pages = [];        // each a list of [source, frame]
    this.number = 0;
    this.title = element('div', {class: 'title'});
    this.grid = element('div', {class: 'grid'});
    this.closer = null;
    root.replaceChildren(this.title, this.grid, element('div', {class: 'actions'},
      button('s', 'success', 's', () => app.press('s')),
      button('f', 'failure', 'f', () => app.press('f')),
      button('u', 'leave out', '', () => app.press('u')),
      button('↵', 'next', '', () => app.press('Enter')),
      element('span', {class: 'gap'}),
      button('space', 'enlarge', '', () => app.press(' '))));
  }

  close() { this.shrink(); }
  get at() { return this.app.at; }

  // Labelled pictures first, in their order; then the others by doubt, which begin a page.
  arrange(keep = 0) {
    const done = [];
    const left = [];
    const place = new Map(this.app.state.order.map(([source, start], i) => [`${source}/${start}`, i]));
    const shown = new Set(this.pages.slice(0, keep).flat().map((item) => item.join('/')));
    this.app.state.sources.forEach(({starts, marks}, source) => starts.forEach((start, i) => {
      const end = i + 1 < starts.length ? starts[i + 1] : marks.length;
      const frames = [];
      for (let frame = start; frame < end; frame++) frames.push([source, frame]);
      if (frames.some((item) => shown.has(item.join('/')))) return;
      if (marks.slice(start, end).includes('.')) left.push([place.get(`${source}/${start}`) ?? Infinity, frames]);
      else done.push(...frames);
    }));
    left.sort((a, b) => a[0] - b[0]);
    const paged = (items) => {
      const pages = [];
      for (let i = 0; i < items.length; i += PER_PAGE) pages.push(items.slice(i, i + PER_PAGE));
      return pages;
    };
    const waiting = paged(left.flatMap(([, frames]) => frames));
    this.pages = keep ? [...this.pages.slice(0, keep), ...waiting, ...paged(done)]
      : [...paged(done), ...waiting];
  }

  entered() {
    const here = ([source, frame]) => source === this.at.source && frame === this.at.frame;
    if (!this.pages.some((page) => page.some(here))) this.arrange();
    this.number = Math.max(0, this.pages.findIndex((page) => page.some(here)));
  }

  grown() { this.arrange(this.number + 1); }

  get shown() { return this.pages[this.number] || []; }

  render() {
    const total = this.pages.reduce((sum, page) => sum + page.length, 0);
    const before = this.pages.slice(0, this.number).reduce((sum, page) => sum + page.length, 0);
    const facts = this.app.sources[this.at.source];
    this.title.replaceChildren(
      element('h1', {}, `Pictures ${before + 1} to ${before + this.shown.length} of ${total}`),
      element('span', {class: 'soft name', title: facts.path}, facts.name),
      element('span', {class: 'soft small'}, this.app.state.sources[this.at.source].how));
    const wanted = JSON.stringify(this.shown);
    if (this.grid.dataset.of !== wanted) {
      this.grid.dataset.of = wanted;
      this.grid.replaceChildren(...this.shown.map(([source, frame]) => element('figure', {
        class: 'cell', 'data-where': `${source}/${frame}`,
        onclick: () => this.app.enter(source, this.app.span(source, frame).start, frame)},
      element('img', {src: pictureUrl(source, frame, 'small'), alt: '', loading: 'lazy', draggable: 'false'}),
      element('span', {class: 'p'}), element('span', {class: 'same'}),
      element('figcaption', {title: this.app.sources[source].names[frame]},
        this.app.sources[source].names[frame]))));
    }
    for (const cell of this.grid.children) {
      const [source, frame] = cell.dataset.where.split('/').map(Number);
      const {marks, curve} = this.app.state.sources[source];
      const here = source === this.at.source && frame === this.at.frame;
      const span = this.app.span(source, frame);
      cell.className = `cell ${CLASSES[marks[frame]]}${here ? ' current' : ''}`;
      const p = curve[frame];
      cell.querySelector('.p').textContent = p === undefined || p === null ? '' : percent(p);
      cell.querySelector('.p').hidden = p === undefined || p === null;
      cell.querySelector('.same').hidden = span.end - span.start === 1;
      cell.querySelector('.same').textContent = `${frame - span.start + 1} of ${span.end - span.start}`;
      if (here) cell.scrollIntoView({block: 'nearest'});
    }
  }

  renderFrame() { this.render(); }
  moved() { this.render(); if (this.closer) this.enlarge(); }

  go([source, frame]) {
    this.app.at = {source, ...this.app.span(source, frame), frame};
    this.moved();
  }

  get place() {
    return this.shown.findIndex(([source, frame]) => source === this.at.source && frame === this.at.frame);
  }

  move(key) {
    const columns = getComputedStyle(this.grid).gridTemplateColumns.split(' ').length;
    const to = {ArrowLeft: this.place - 1, ArrowRight: this.place + 1, ArrowUp: this.place - columns,
      ArrowDown: this.place + columns, Home: 0, End: this.shown.length - 1}[key];
    if (to === undefined) return false;
    if (to >= 0 && to < this.shown.length) this.go(this.shown[to]);
    else if (key === 'ArrowRight') this.page(1);
    return true;
  }

  page(step) {
    const number = this.number + step;
    if (number < 0 || number >= this.pages.length) return true;
    this.number = number;
    this.go(this.shown[0]);
    return true;
  }

  // The next picture of this page without a label, then the next page.
  next() {
    const open = ([source, frame]) => this.app.state.sources[source].marks[frame] === '.';
    const place = this.place;
    const found = [...this.shown.slice(place + 1), ...this.shown.slice(0, place)].find(open);
    if (found) { this.go(found); return true; }
    this.arrange(this.number + 1);
    const number = this.pages.findIndex((page) => page.some(open));
    if (number < 0) return false;
    if (this.pages[number].find(open).join() === this.shown[place]?.join()) return false;
    this.number = number;
    this.go(this.shown.find(open));
    return true;
  }

  space() {
    if (this.closer) this.shrink();
    else this.enlarge();
  }

  enlarge() {
    const {source, frame} = this.at;
    if (!this.closer) document.body.append(this.closer = element('div', {class: 'closer'}, element('img', {alt: ''})));
    this.closer.firstChild.src = pictureUrl(source, frame);
  }

  shrink() {
    this.closer?.remove();
    this.closer = null;
  }
}
