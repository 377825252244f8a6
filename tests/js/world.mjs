// A clock that runs as fast as it can, a server that plays a script, and a page to hide and leave.
const realImmediate = setImmediate;

export function world(t, { random = 0 } = {}) {
  const kept = {};
  for (const name of ['setTimeout', 'clearTimeout', 'document', 'addEventListener']) {
    kept[name] = globalThis[name];
  }
  const { now } = Date;
  const { random: chance } = Math;
  const timers = new Map();
  let time = 0, ids = 0;
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { hidden: false });

  globalThis.setTimeout = (run, ms) => {
    timers.set(++ids, { run, at: time + ms });
    return ids;
  };
  globalThis.clearTimeout = (id) => timers.delete(id);
  globalThis.document = document;
  globalThis.addEventListener = window.addEventListener.bind(window);
  Date.now = () => time;
  Math.random = () => random;
  t.after(() => {
    Object.assign(globalThis, kept);
    Object.assign(Date, { now });
    Math.random = chance;
  });

  async function settle() {
    for (let turn = 0; turn < 20; turn++) await new Promise((done) => realImmediate(done));
  }

  return {
    get time() { return time; },
    get timers() { return timers.size; },
    window,
    document,
    settle,
    /** Lets `ms` pass, one timer after the other. */
    async pass(ms) {
      const end = time + ms;
      for (;;) {
        await settle();
        const [id, next] = [...timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
        if (!next || next.at > end) break;
        timers.delete(id);
        time = next.at;
        next.run();
      }
      time = end;
    },
    hide(hidden) {
      document.hidden = hidden;
      document.dispatchEvent(new Event('visibilitychange'));
    },
    leave: () => window.dispatchEvent(new Event('pagehide')),
    comeBack: () => window.dispatchEvent(new Event('pageshow')),
    goOnline: () => window.dispatchEvent(new Event('online')),
  };
}

const ended = (signal) => new Promise((_, reject) => {
  const fail = () => reject(signal.reason);
  if (signal.aborted) fail();
  else signal.addEventListener('abort', fail);
});

/**
 * A `fetch` that plays `statuses` (task dicts, HTTP codes, Errors, Responses, 'hang'; the last for
 * ever) and, at /events/, `streams` (functions of a push and a close; without, 404).
 */
export function server(clock, statuses, streams = []) {
  const asked = [];
  let opened = 0;
  async function send(url, init) {
    asked.push({ url, at: clock.time, headers: init.headers, signal: init.signal });
    if (url.includes('/events')) {
      const play = streams[Math.min(opened++, streams.length - 1)];
      if (!play) return new Response('', { status: 404 });
      if (play instanceof Response) return play.clone();
      if (play === 'hang') return ended(init.signal);
      return new Response(new ReadableStream({
        start(controller) {
          init.signal.addEventListener('abort', () => controller.error(init.signal.reason));
          const push = (text) => controller.enqueue(new TextEncoder().encode(text));
          play({ push, task: (task) => push(`data: ${JSON.stringify({ task })}\n\n`),
            close: () => controller.close() });
        },
      }), { headers: { 'Content-Type': 'text/event-stream; charset=utf-8' } });
    }
    const step = statuses.length > 1 ? statuses.shift() : statuses[0];
    if (step instanceof Error) throw step;
    if (step instanceof Response) return step.clone();
    if (step === 'hang') return ended(init.signal);
    if (typeof step === 'number') return new Response('', { status: step });
    return Response.json({ task: step });
  }
  const times = (part) => asked.filter(({ url }) => url.includes(part)).map(({ at }) => at);
  return { send, asked, statuses: () => times('/status'), events: () => times('/events') };
}

export const task = (status, result = null, more = {}) => ({ id: 'x', status, result, ...more });
export const at = (percent, more = {}) =>
  task('PROGRESS', { progress_percent: percent, time_remaining: -1 }, more);

/** Watches, and notes every call back as [name, status or error]. */
export function follow(watchTask, played, options = {}) {
  const calls = [];
  const stop = new AbortController();
  const note = (name) => (value) => calls.push([name, value]);
  // A place of its own, for what one server cannot do is remembered.
  const url = options.url ?? `/place-${Math.round(performance.now() * 1e6)}/x/status/`;
  const done = watchTask(url, {
    fetch: played.send,
    signal: stop.signal,
    onPending: note('pending'),
    onProgress: note('progress'),
    onSuccess: note('success'),
    onFailure: note('failure'),
    onError: note('error'),
    onUnconfirmed: options.doubts ? note('unconfirmed') : undefined,
    ...options,
  });
  const names = () => calls.map(([name]) => name);
  return { calls, names, done, stop: () => stop.abort() };
}
