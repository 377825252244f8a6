import assert from 'node:assert/strict';
import test from 'node:test';
import { watchTask } from '../../client/watch.js';
import { at, follow, server, task, world } from './world.mjs';

const polled = { events: false };
const html = new Response('<html>Please log in</html>');
const other = Response.json({ detail: 'no task here' });

for (const [what, fault] of [
  ['500', 500], ['a network error', new TypeError('Failed to fetch')],
  ['a login page', html], ['an answer without a task', other], ['404', 404],
]) {
  test(`${what}, three times, is nothing to tell`, async (t) => {
    const clock = world(t);
    const played = server(clock, [at(5), fault, fault, fault, task('SUCCESS')]);
    const seen = follow(watchTask, played, polled);
    await clock.pass(60000);
    assert.deepEqual(seen.names(), ['progress', 'success']);
  });
}

test('an outage is told once, and followed by the state when it is over', async (t) => {
  const clock = world(t);
  const played = server(clock, [...Array(9).fill(503), at(5), ...Array(5).fill(502), task('SUCCESS')]);
  const seen = follow(watchTask, played, polled);
  await clock.pass(600000);
  assert.deepEqual(seen.names(), ['error', 'progress', 'error', 'success']);
  const [, error] = seen.calls[0];
  assert.equal(error.status, 503);
  assert.equal(error.final, false);
});

test('a lasting 4xx ends the watch; 408, 425 and 429 do not', async (t) => {
  for (const [code, final] of [[403, true], [404, true], [410, true], [408, false], [429, false]]) {
    const clock = world(t);
    const played = server(clock, [code]);
    const seen = follow(watchTask, played, polled);
    await clock.pass(60000);
    assert.deepEqual(seen.names(), ['error']);
    assert.equal(seen.calls[0][1].final, final);
    if (final) assert.equal(await seen.done, undefined);
    assert.equal(played.asked.length === 4, final);
    seen.stop();
    await seen.done;
  }
});

test('an outage that turns into a lasting 4xx is told as final', async (t) => {
  const clock = world(t);
  const seen = follow(watchTask, server(clock, [...Array(6).fill(502), 404]), polled);
  await clock.pass(600000);
  assert.deepEqual(seen.calls.map(([name, { final }]) => [name, final]), [['error', false], ['error', true]]);
  assert.equal(await seen.done, undefined);
});

test('tries come apart, doubled and spread, up to half a minute', async (t) => {
  const longest = [], shortest = [];
  for (const [random, into] of [[0.9999, longest], [0, shortest]]) {
    const clock = world(t, { random });
    const played = server(clock, [500]);
    const seen = follow(watchTask, played, polled);
    await clock.pass(400000);
    const times = played.statuses();
    into.push(...times.slice(1).map((time, index) => Math.round(time - times[index])));
    seen.stop();
    await seen.done;
  }
  assert.deepEqual(shortest.slice(0, 8), [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]);
  assert.ok(longest.every((gap, index) => gap >= shortest[index] && gap <= 36000));
});

test('Retry-After of an answer that failed is kept to', async (t) => {
  const clock = world(t);
  const busy = new Response('', { status: 503, headers: { 'Retry-After': '40' } });
  const played = server(clock, [busy, task('SUCCESS')]);
  follow(watchTask, played, polled);
  await clock.pass(100000);
  assert.deepEqual(played.statuses(), [0, 40000]);
});

test('a server that never answers counts as failed after 20 seconds', async (t) => {
  const clock = world(t);
  const played = server(clock, ['hang', task('SUCCESS')]);
  const seen = follow(watchTask, played, polled);
  await clock.pass(19000);
  assert.equal(played.asked.length, 1);
  await clock.pass(5000);
  assert.deepEqual(seen.names(), ['success']);
});

test('back on line means asking at once', async (t) => {
  const clock = world(t);
  const played = server(clock, [...Array(7).fill(new TypeError('offline')), task('SUCCESS')]);
  const seen = follow(watchTask, played, polled);
  await clock.pass(40000);
  assert.equal(played.asked.length, 7);
  clock.goOnline();
  await clock.settle();
  assert.deepEqual(seen.names(), ['error', 'success']);
});

test('a large result on a slow line has time to arrive, but not for ever', async (t) => {
  for (const [length, questions] of [[200000, 1], [400000, 2]]) {
    const clock = world(t);
    const slow = async (url, init) => new Response(new ReadableStream({
      start(controller) {
        init.signal.addEventListener('abort', () => controller.error(init.signal.reason));
        setTimeout(() => {
          if (init.signal.aborted) return;
          controller.enqueue(new TextEncoder().encode(JSON.stringify({ task: task('SUCCESS') })));
          controller.close();
        }, length);
      },
    }));
    const quick = server(clock, [task('SUCCESS')]);
    let asked = 0;
    const seen = follow(watchTask, { send: (...all) => asked++ ? quick.send(...all) : slow(...all) }, polled);
    await clock.pass(500000);
    assert.deepEqual(seen.names(), ['success']);
    assert.equal(asked, questions);
  }
});

test('what is not confirmed any more is told before it is an outage, once', async (t) => {
  const clock = world(t);
  const played = server(clock, [at(5), 503, 503, at(6), ...Array(6).fill(503), task('SUCCESS')]);
  const seen = follow(watchTask, played, { ...polled, doubts: true });
  await clock.pass(600000);
  assert.deepEqual(seen.names(),
    ['progress', 'unconfirmed', 'progress', 'unconfirmed', 'error', 'success']);
  assert.equal(seen.calls[1][1].result.progress_percent, 5);
});

test('nor is what a server that stays silent has told before', async (t) => {
  const clock = world(t);
  const played = server(clock, [at(5), 'hang', 'hang', task('SUCCESS')]);
  const seen = follow(watchTask, played, { ...polled, doubts: true });
  await clock.pass(11000);
  assert.deepEqual(seen.names(), ['progress', 'unconfirmed']);
  await clock.pass(60000);
  assert.deepEqual(seen.names(), ['progress', 'unconfirmed', 'success']);
});

test('nor what came by a stream on which nothing comes any more, not even a comment', async (t) => {
  const clock = world(t);
  const silent = ({ push, task: send }) => {
    send(at(8));
    for (const ms of [15000, 30000]) setTimeout(() => push(':\n\n'), ms);
  };
  const played = server(clock, [at(8)], [silent]);
  const seen = follow(watchTask, played, { doubts: true });
  await clock.pass(45000);
  assert.deepEqual(seen.names(), ['progress', 'progress']);
  await clock.pass(10000);
  assert.deepEqual(seen.names(), ['progress', 'progress', 'unconfirmed']);
  seen.stop();
});

test('a page that was told "lost" hears better of it', async (t) => {
  const clock = world(t);
  const lost = task('FAILURE', 'gone', { lost: true });
  const played = server(clock, [at(5), lost, lost, lost, at(40), task('SUCCESS')]);
  const seen = follow(watchTask, played, polled);
  await clock.pass(3000);
  // Whoever waits for the end is not kept waiting by a task that may never go on.
  assert.equal((await seen.done).lost, true);
  await clock.pass(100000);
  assert.deepEqual(seen.names(), ['progress', 'failure', 'progress', 'success']);
  assert.equal(clock.timers, 0);
});

test('a task that stays lost is asked about for an hour, seldom', async (t) => {
  const clock = world(t);
  const played = server(clock, [task('FAILURE', 'gone', { lost: true })]);
  const seen = follow(watchTask, played, polled);
  await clock.pass(7200000);
  assert.deepEqual(seen.names(), ['failure']);
  assert.ok(played.asked.length > 100 && played.asked.length < 245, String(played.asked.length));
  assert.equal(clock.timers, 0);
});
