// Follows one task: events sent by the server where there are any, polling where not.
import { eventsOf, readEvents } from './events.js';
import { isHidden, listen } from './page.js';

const PATIENCE = 4; // failures in a row before the user is told
const LONGEST = 30000; // ms between two tries while the server fails
const HIDDEN = 15000; // ms at least between two questions of a hidden tab
const TIMEOUT = 20000; // ms until an answer begins
const BODY = 300000; // ms until it ends: a large result, on a slow line
const DOUBT = 10000; // ms of silence at least after which what was told counts as unconfirmed
const LOST = 15000; // ms between two questions about a lost task, which somebody may start again
const MOURNED = 3600000; // ms for which it is asked about
const STREAMS = 2; // of six connections per server that HTTP/1.1 leaves to all tabs

const FINAL = /^(SUCCESS|FAILURE|REVOKED)$/;
const WAITING = /^(PENDING|RECEIVED|RETRY)$/;
const PASSING = [408, 425, 429]; // of the 4xx, those that may be gone next time

const unstreamed = new Set(); // places whose server sends no events
let streams = 0;

const seconds = (value) => Math.min(Math.max(Number(value) || 0, 0), 300) * 1000;

function failed(message, response) {
  const after = response?.headers.get('Retry-After');
  return Object.assign(new Error(message), { status: response?.status ?? 0, wait: seconds(after) });
}

/** Many tasks as one, which goes on as long as any of them. */
function together(tasks) {
  const left = tasks.filter(({ status }) => !FINAL.test(status));
  const lost = !left.length && tasks.some((task) => task.lost);
  const soon = left.map((task) => task.retry_after ?? 2);
  return {
    status: left.length ? 'PROGRESS' : lost ? 'FAILURE' : 'SUCCESS',
    lost,
    result: tasks,
    retry_after: Math.min(...soon),
  };
}

function taskOf(data) {
  if (data?.tasks) return together(data.tasks);
  if (!data?.task?.status) throw failed('No task in the answer');
  return data.task;
}

/** Calls back at every status of a task; resolves to its last one, to undefined when stopped. */
export const watchTask = (url, options = {}) => new Promise((resolve, reject) => {
  watch(url, options, resolve).then(resolve, reject);
});

async function watch(url, options, resolve) {
  const { signal, interval, onPending, onProgress, onSuccess, onFailure, onError, onUnconfirmed } = options;
  const send = options.fetch ?? ((...request) => fetch(...request));
  const events = options.events ?? eventsOf(url);
  const place = events && events.replace(/[?#].*/, '').replace(/[^/]+\/events\/?$/, '');
  const begun = Date.now();
  let last, etag, abort, wake, lost, broken = 0, failures = 0;
  let away = false, streaming = false, unsure = false;

  const over = () => !!signal?.aborted;

  function tell(callback, value) {
    if (over()) return;
    try {
      callback?.(value);
    } catch (error) {
      // The page's own mistake belongs on its console, and does not end the watch.
      (globalThis.reportError ?? console.error)(error);
    }
  }

  function deliver(task) {
    const known = last?.lost && task.lost;
    last = task;
    unsure = false;
    if (known) return;
    lost = task.lost ? Date.now() : undefined;
    const { status } = task;
    if (status === 'SUCCESS') tell(onSuccess, task);
    else if (FINAL.test(status)) tell(onFailure, task);
    else tell(WAITING.test(status) ? onPending : onProgress, task);
  }

  /** What was told last has not been confirmed for a while. */
  function doubt() {
    if (unsure || !last || last.lost) return;
    unsure = true;
    tell(onUnconfirmed, last);
  }

  /** One request, ended by the page, the caller, or after `limit` ms without `alive()`. */
  async function request(target, headers, limit, read) {
    const controller = new AbortController();
    let timer, silence;
    const still = () => { clearTimeout(timer); clearTimeout(silence); };
    const alive = (ms) => {
      still();
      timer = setTimeout(() => controller.abort(), ms);
      silence = setTimeout(doubt, Math.max(ms / 2, DOUBT));
    };
    abort = () => controller.abort();
    alive(limit);
    try {
      const init = { headers, cache: 'no-store', signal: controller.signal };
      return await read(await send(target, init), alive);
    } finally {
      still();
      abort = undefined;
    }
  }

  async function ask() {
    const headers = { Accept: 'application/json' };
    if (etag) headers['If-None-Match'] = etag;
    deliver(await request(url, headers, TIMEOUT, async (response, alive) => {
      alive(BODY);
      if (last && response.status === 304) return last;
      if (!response.ok) throw failed(`HTTP status ${response.status}`, response);
      etag = response.headers.get('ETag');
      return taskOf(await response.json());
    }));
  }

  async function follow() {
    streams++;
    streaming = true;
    broken++; // until an event proves otherwise
    try {
      await request(events, { Accept: 'text/event-stream' }, 8000, async (response, alive) => {
        const streamed = response.headers.get('Content-Type')?.startsWith('text/event-stream');
        if (response.ok ? !streamed : [404, 405, 501].includes(response.status)) {
          unstreamed.add(place);
        } else if (response.ok) {
          const heard = (ms) => {
            alive(ms);
            if (unsure) deliver(last); // a comment says that nothing has changed
          };
          await readEvents(response.body, heard, (data) => {
            deliver(taskOf(data));
            etag = undefined; // it was that of an older state
            broken = 0;
            return FINAL.test(last.status);
          });
        }
      });
    } catch (error) {
      // The status view, asked next, tells what is wrong. A stream from which nothing came at all
      // is one that something on the way keeps back, for this and for every other task.
      if (over() || away || isHidden()) broken = 0;
      else if (broken && error.name === 'AbortError') unstreamed.add(place);
    } finally {
      streams--;
      streaming = false;
    }
  }

  const streamable = () =>
    events && !unstreamed.has(place) && broken < 3 && !isHidden() && streams < STREAMS;

  function pause(error, soon) {
    let least = 0, ms;
    if (soon) {
      ms = 1000 * Math.random();
    } else if (error) {
      least = error.wait ?? 0;
      ms = Math.min(500 * 2 ** failures, LONGEST) * (0.5 + Math.random() / 2);
    } else {
      least = last.lost ? LOST : seconds(last.retry_after);
      ms = interval ?? (least || Math.min(Math.max((Date.now() - begun) / 10, 500), 5000));
    }
    ms = Math.max(ms, least, isHidden() ? HIDDEN : 250);
    // Later by a little, never earlier, so that many pages do not ask in step.
    return ms * (1 + Math.random() / 5);
  }

  function nap(ms) {
    let timer;
    return new Promise((resolve) => {
      wake = resolve;
      if (ms !== undefined) timer = setTimeout(resolve, ms);
      if (over()) resolve();
    }).finally(() => clearTimeout(timer));
  }

  const listeners = new AbortController();
  const on = (target, name, handler) => listen(target, name, handler, listeners.signal);
  const stop = () => { abort?.(); wake?.(); };
  signal?.addEventListener('abort', stop, { signal: listeners.signal });
  on(globalThis, 'online', () => wake?.());
  on(globalThis, 'pagehide', () => { away = true; stop(); });
  on(globalThis, 'pageshow', () => { away = false; wake?.(); });
  on(globalThis.document, 'visibilitychange', () => { if (!isHidden()) wake?.(); else if (streaming) abort?.(); });

  try {
    while (!over()) {
      // Until the page comes back from the browser's cache.
      if (away) { await nap(); continue; }
      let problem, soon;
      try {
        await ask();
        failures = 0;
        if (!FINAL.test(last.status) && streamable()) {
          await follow();
          soon = !broken; // servers end good streams too, to shut down or to shed load
        }
      } catch (error) {
        if (over() || away) continue;
        problem = error;
        failures++;
        const { status = 0 } = error;
        const final = failures >= PATIENCE && status >= 400 && status < 500 &&
          !PASSING.includes(status);
        if (failures === 2) doubt();
        if (!last?.lost && (final || failures === PATIENCE)) tell(onError, Object.assign(error, { status, final }));
        if (final) return;
      }
      if (!over() && FINAL.test(last?.status)) {
        if (!(Date.now() - lost < MOURNED)) return last;
        resolve(last);
      }
      if (!away) await nap(pause(problem, soon));
    }
  } finally {
    listeners.abort();
  }
}
