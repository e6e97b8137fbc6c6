// The page: state from the server, keys, and what is always in sight.

import {get, post, preload, pictureUrl} from './api.js';
import {AttemptView} from './attempt.js';
import {drawing, element, percent, plural} from './dom.js';
import {GridView} from './grid.js';

const POLL_MS = 1000;
const CHANGES = {s: 'label', f: 'label', u: 'label', c: 'split', j: 'join', b: 'begin', e: 'end'};
const byId = (id) => document.getElementById(id);

class App {
  constructor() {
    this.sources = [];
    this.state = null;
    this.at = null;     // source, start and end of the attempt, and frame
    this.view = null;
    this.queue = Promise.resolve();
  }

  // State

  async load() {
    this.sources = await get('/api/sources');
    this.update(await get('/api/state'));
    setInterval(() => this.poll(), POLL_MS);
  }

  async poll() {
    if (this.polling) return;
    this.polling = true;
    try {
      const state = await get(`/api/state?since=${this.state.version.join('.')}`);
      if (this.gone) this.say('');
      this.gone = false;
      if (state) await this.grown(state);
    } catch (error) {
      this.gone = true;
      this.say(error.message);
    } finally {
      this.polling = false;
    }
  }

  async grown(state) {
    if (state.sources.some((source, i) => source.marks.length > this.sources[i].frames)) {
      this.sources = await get('/api/sources');
    }
    this.update(state);
  }

  update(state) {
    const before = this.state && this.at && this.state.sources[this.at.source].marks.length;
    this.state = state;
    this.header();
    const notice = [...state.notices, ...state.sources.flatMap((source, i) => source.cutting === null
      ? [] : [`${this.sources[i].name}: looking for attempts, ${source.cutting} %`])];
    byId('notice').hidden = !notice.length;
    byId('notice').textContent = notice.join(' · ');
    if (this.at) {
      const source = state.sources[this.at.source];
      this.at = {...this.at, ...this.span(this.at.source, Math.min(this.at.frame, source.marks.length - 1))};
      if (before !== source.marks.length) this.view.grown?.();
    } else if (state.sources.some((source) => source.starts.length)) {
      this.first();
    } else {
      byId('view').replaceChildren(element('p', {class: 'finished soft'}, 'Looking for attempts …'));
    }
    if (this.at) this.view.render();
  }

  first() {
    const [next] = this.state.order;
    const any = this.state.sources.findIndex((source) => source.starts.length);
    this.enter(...(next || [any, 0]));
  }

  span(source, frame) {
    const {starts, marks} = this.state.sources[source];
    let number = starts.length - 1;
    while (number > 0 && starts[number] > frame) number--;
    return {start: starts[number], end: number + 1 < starts.length ? starts[number + 1] : marks.length};
  }

  // Where we are

  enter(source, start, frame = null) {
    const Kind = this.sources[source].kind === 'pictures' ? GridView : AttemptView;
    if (!(this.view instanceof Kind)) {
      this.view?.close();
      this.view = new Kind(this, byId('view'));
    }
    this.view.stop?.();
    const found = this.state.sources[source];
    const span = this.span(source, start);
    // Where success would begin, so that one key is enough if it does.
    const suggestion = found.suggestions[span.start];
    const unlabelled = found.marks.slice(span.start, span.end).includes('.');
    const begin = suggestion && suggestion[0] === 's' && unlabelled ? suggestion[1] : span.start;
    this.at = {source, ...span, frame: frame ?? Math.min(Math.max(begin, span.start), span.end - 1)};
    this.view.entered?.();
    this.view.render();
    post('show', {source, frame: span.start}).catch(() => {});
    this.prepareNext();
  }

  // Load what comes next before it is needed.
  prepareNext() {
    const next = this.following();
    if (!next || this.sources[next[0]].kind === 'pictures') return;
    const [source, start] = next;
    const {end} = this.span(source, start);
    const suggestion = this.state.sources[source].suggestions[start];
    preload(pictureUrl(source, suggestion && suggestion[0] === 's' ? suggestion[1] : start));
    for (let i = 0; i < 12; i++) {
      preload(pictureUrl(source, Math.floor(start + (i + .5) / 12 * (end - start)), 'small'));
    }
  }

  goTo(frame) {
    this.at.frame = frame;
    if (frame < this.at.start || frame >= this.at.end) Object.assign(this.at, this.span(this.at.source, frame));
    if (this.view.moved) this.view.moved();
    else { this.view.renderFrame(); this.view.renderStrip(); }
  }

  following() {
    return this.state.order.find(([source, start]) =>
      source !== this.at.source || start !== this.at.start) || null;
  }

  next() {
    if (this.view.next?.()) return;
    const next = this.following();
    if (next) this.enter(...next);
    else if (!this.state.counts['.']) this.say('All attempts are labelled. Go on with Page ↑ and ↓, or finish.', false);
    else this.say('This attempt is the last one without a label.', false);
  }

  neighbour(step) {
    const {starts} = this.state.sources[this.at.source];
    const number = starts.indexOf(this.at.start) + step;
    if (number >= 0 && number < starts.length) this.enter(this.at.source, starts[number]);
    else {
      const source = this.at.source + step;
      const other = this.state.sources[source];
      if (other?.starts.length) this.enter(source, step > 0 ? 0 : other.starts[other.starts.length - 1]);
    }
  }

  // Keys

  press(key, shift = false) {
    this.queue = this.queue.then(() => this.handle(key, shift)).catch((error) => this.say(error.message));
    return this.queue;
  }

  async handle(key, shift) {
    if (key === '?') return byId('keys').showModal();
    if (!this.at) return;
    if (key === 'Enter') return this.next();
    if (key === ' ') return this.view.space();
    if (key === 'PageUp' || key === 'PageDown') {
      return this.view.page?.(key === 'PageDown' ? 1 : -1) ?? this.neighbour(key === 'PageDown' ? 1 : -1);
    }
    if (this.view.move(key, shift)) return;
    if (key === 'z') {
      const done = await this.change('undo', {});
      if (done) this.enter(done.source, done.frame, done.frame);
    } else if (CHANGES[key]) {
      this.view.stop?.();
      await this.change(CHANGES[key], {...this.at, mark: key});
    }
  }

  // Ask for a change; when this returns, it is on the disk, or the page says why not.
  async change(name, asked) {
    const answer = await post(name, asked);
    this.say(answer.error || '');
    if (answer.state) await this.grown(answer.state);
    return answer.error ? null : answer.at;
  }

  say(text, bad = true) {
    const message = byId('message');
    message.hidden = !text;
    message.textContent = text;
    message.classList.toggle('bad', bad);
  }

  // Always in sight

  header() {
    const {counts, agreement, adaptation, judging} = this.state;
    const total = counts.s + counts.f + counts.u + counts['.'];
    const done = total - counts['.'];
    byId('done').textContent = done;
    byId('of').textContent = `of ${total} labelled`;
    for (const mark of 'sfu') byId(`count-${mark}`).textContent = counts[mark];
    [...document.querySelectorAll('.meter i')].forEach((bar, i) => {
      bar.style.width = `${total ? 100 * counts['sfu'[i]] / total : 0}%`;
    });
    document.title = `${done} of ${total} labelled`;
    byId('undo').disabled = !this.state.undoable;
    const [value, name, note] = accuracyText(adaptation, agreement, judging);
    byId('accuracy').textContent = value;
    byId('accuracy-name').textContent = name;
    byId('accuracy-note').textContent = note;
    learning(byId('learning'), adaptation ? adaptation.curve : []);
  }
}

function accuracyText(adaptation, agreement, judging) {
  const judged = judging.failure ? `no suggestions: ${judging.failure}`
    : judging.done < judging.total ? `${judging.checkpoint}: ${judging.done} of ${judging.total} judged`
      : judging.checkpoint;
  if (adaptation) {
    const {accuracy, running, failure, labelled} = adaptation;
    const note = failure ? `not adapted: ${failure}`
      : running ? `adapting to ${plural(running, 'label')} …`
        : accuracy ? `adapted to ${plural(labelled, 'label')}` : 'adapts after 10 labels';
    if (accuracy) {
      return [percent(accuracy.right / Math.max(accuracy.total, 1)),
        `expected accuracy (${percent(accuracy.low)} to ${percent(accuracy.high)})`, note];
    }
    return ['–', 'expected accuracy', note];
  }
  if (!agreement.total) return ['–', 'expected accuracy', judged];
  const [low, high] = agreement.wilson_95;
  return [percent(agreement.value), `of labels as suggested (${percent(low)} to ${percent(high)})`, judged];
}

// Accuracy against the number of labelled attempts, with its interval.
function learning(svg, curve) {
  const points = curve.filter((point) => Number.isFinite(point.accuracy));
  svg.style.display = points.length > 1 ? '' : 'none';
  if (points.length < 2) return svg.replaceChildren();
  const most = Math.max(...points.map((point) => point.attempts));
  const x = (point) => 2 + 106 * point.attempts / most;
  const y = (share) => 32 - 30 * Math.max(0, (share - .5) * 2);
  const line = (name) => points.map((point) => `${x(point)},${y(point[name])}`);
  svg.setAttribute('viewBox', '0 0 110 34');
  svg.replaceChildren(
    drawing('polygon', {fill: 'var(--series-1)', opacity: .2,
      points: [...line('low'), ...line('high').reverse()].join(' ')}),
    drawing('polyline', {fill: 'none', stroke: 'var(--series-1)', 'stroke-width': 2,
      points: line('accuracy').join(' ')}));
}

const app = new App();
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || byId('keys').open) return;
  const onButton = event.target.closest?.('button') && ['Enter', ' '].includes(event.key);
  if (onButton) return;
  const known = ['?', 'Enter', ' ', 'z', 'PageUp', 'PageDown', 'Home', 'End'];
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (known.includes(key) || CHANGES[key] || key.startsWith('Arrow')) {
    event.preventDefault();
    if (event.repeat && !key.startsWith('Arrow')) return;
    app.press(key, event.shiftKey);
  }
});
byId('undo').addEventListener('click', () => app.press('z'));
byId('help').addEventListener('click', () => app.press('?'));
byId('finish').addEventListener('click', async () => {
  try { await post('finish', {}); } catch { /* it has ended already */ }
  app.say('Finished: everything is in the label file, and label_attempts has ended. You may close this tab.', false);
});
for (const name of ['undo', 'help', 'finish']) {
  byId(name).addEventListener('mousedown', (event) => event.preventDefault());
}
window.labelling = app;     // for tests
app.load().catch((error) => app.say(error.message));
