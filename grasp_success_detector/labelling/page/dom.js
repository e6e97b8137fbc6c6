// Elements: text is always set as text, never as markup.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'class') made.className = value;
    else if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function drawing(name, attributes = {}, text = null) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
}

export const percent = (share) => `${Math.round(100 * share)} %`;

export const plural = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;

// A button that a key press does not take away from the page's own keys.
export function button(key, text, kind, act) {
  return element('button', {
    class: kind, onmousedown: (event) => event.preventDefault(), onclick: act,
  }, element('kbd', {}, key), text);
}

// Successive equal marks of the frames start to end: [mark, first, after last].
export function runs(marks, start, end) {
  const found = [];
  for (let i = start; i < end; i++) {
    const last = found[found.length - 1];
    if (last && last[0] === marks[i]) last[2] = i + 1;
    else found.push([marks[i], i, i + 1]);
  }
  return found;
}

// The mark that an attempt counts by, as the server counts it.
export function markOf(marks, start, end) {
  const own = marks.slice(start, end);
  if (own.includes('.')) return '.';
  return own.replaceAll('u', '').slice(-1) || 'u';
}

export const NAMES = {s: 'success', f: 'failure', u: 'left out', '.': 'no label yet'};
export const CLASSES = {s: 's', f: 'f', u: 'u', '.': 'none'};
