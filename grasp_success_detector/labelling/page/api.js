// Requests to the server, one change at a time: a key is on the disk before the next is sent.

const meta = (name) => document.querySelector(`meta[name=${name}]`).content;
const token = meta('label-token');
const pictures = meta('label-pictures');

export class Refused extends Error {}

export const GONE = 'label_attempts has ended. Nothing is lost: start the same command again, and ' +
  'open the address that it prints.';

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused(GONE);
  }
  if (answer.status === 204) return null;
  if (answer.status === 403) throw new Refused(GONE);
  return answer.json();
}

export const get = (path) => ask(path, {headers: {'x-label-token': token}});

export const post = (name, content) => ask(`/api/${name}`, {
  method: 'POST', body: JSON.stringify(content),
  headers: {'x-label-token': token, 'content-type': 'application/json'},
});

export const pictureUrl = (source, frame, size = 'large') =>
  `/picture/${pictures}/${size}/${source}/${frame}`;

const kept = new Map();

// Load pictures before they are shown; the latest 120 stay ready.
export function preload(url) {
  let image = kept.get(url);
  if (!image) {
    image = new Image();
    image.src = url;
  }
  kept.delete(url);
  kept.set(url, image);
  if (kept.size > 120) kept.delete(kept.keys().next().value);
  return image;
}
