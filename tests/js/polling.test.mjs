import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import test from 'node:test';
import { watchTask } from '../../client/watch.js';
import { at, follow, server, task, world } from './world.mjs';

const polled = { events: false };
const gaps = (times) => times.slice(1).map((time, index) => time - times[index]);

test('a task is followed from waiting to success, and then left alone', async (t) => {
  const clock = world(t);
  const played = server(clock, [task('PENDING'), task('STARTED'), at(40), task('SUCCESS', [1])]);
  const seen = follow(watchTask, played, polled);
  await clock.pass(600000);
  assert.deepEqual(seen.names(), ['pending', 'progress', 'progress', 'success']);
  assert.equal((await seen.done).status, 'SUCCESS');
  assert.equal(played.asked.length, 4);
  assert.equal(clock.timers, 0);
});

test('FAILURE and REVOKED end the watch; RETRY waits on', async (t) => {
  const clock = world(t);
  for (const status of ['FAILURE', 'REVOKED']) {
    const played = server(clock, [task('RETRY'), task(status, 'no')]);
    const seen = follow(watchTask, played, polled);
    await clock.pass(60000);
    assert.deepEqual(seen.names(), ['pending', 'failure']);
    assert.equal((await seen.done).status, status);
    assert.equal(played.asked.length, 2);
  }
});

test('a state of one\'s own counts as progress', async (t) => {
  const clock = world(t);
  const seen = follow(watchTask, server(clock, [task('UPLOADING'), task('SUCCESS')]), polled);
  await clock.pass(10000);
  assert.deepEqual(seen.names(), ['progress', 'success']);
});

test('questions come apart as the task grows old, and spread by up to a fifth', async (t) => {
  for (const random of [0, 0.999]) {
    const clock = world(t, { random });
    const played = server(clock, [task('PENDING')]);
    const seen = follow(watchTask, played, polled);
    await clock.pass(300000);
    const apart = gaps(played.statuses());
    const spread = 1 + random / 5;
    assert.ok(Math.abs(apart[0] - 500 * spread) < 1);
    assert.ok(apart.every((gap, index) => index === 0 || gap >= apart[index - 1] - 1));
    assert.ok(Math.abs(apart.at(-1) - 5000 * spread) < 1);
    seen.stop();
    await seen.done;
  }
});

test('the hint of the server is kept to, and never undercut', async (t) => {
  const clock = world(t, { random: 0.5 });
  const played = server(clock, [at(1, { retry_after: 7 })]);
  const seen = follow(watchTask, played, polled);
  await clock.pass(30000);
  assert.ok(gaps(played.statuses()).every((gap) => gap >= 7000 && gap <= 8400));
  seen.stop();
});

test('an interval of the caller is kept, unless the server asks for more', async (t) => {
  const clock = world(t);
  const played = server(clock, [at(1), at(2, { retry_after: 9 }), at(3, { retry_after: 1 })]);
  const seen = follow(watchTask, played, { ...polled, interval: 3000 });
  await clock.pass(16000);
  assert.deepEqual(played.statuses(), [0, 3000, 12000, 15000]);
  seen.stop();
});

test('a hint of zero or of nonsense does not make a flood, nor one of years a halt', async (t) => {
  for (const hint of [0, 0.001, -5, 'soon', NaN, null]) {
    const clock = world(t);
    const played = server(clock, [at(1, { retry_after: hint })]);
    const seen = follow(watchTask, played, polled);
    await clock.pass(10000);
    assert.ok(played.asked.length > 2 && played.asked.length <= 41, `${hint}: ${played.asked.length}`);
    seen.stop();
  }
  const clock = world(t);
  const played = server(clock, [at(1, { retry_after: 1e12 }), task('SUCCESS')]);
  const seen = follow(watchTask, played, polled);
  await clock.pass(301000);
  assert.deepEqual(seen.names(), ['progress', 'success']);
});

test('what has not changed (304) is not sent again', async (t) => {
  const clock = world(t);
  const first = Response.json({ task: at(10) }, { headers: { ETag: '"a"' } });
  const played = server(clock, [first, new Response(null, { status: 304 }), task('SUCCESS')]);
  const seen = follow(watchTask, played, polled);
  await clock.pass(10000);
  assert.deepEqual(seen.names(), ['progress', 'progress', 'success']);
  assert.deepEqual(played.asked.map(({ headers }) => headers['If-None-Match']), [undefined, '"a"', '"a"']);
});

test('a call back that throws is reported and does not end the watch', async (t) => {
  const clock = world(t);
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  t.after(() => delete globalThis.reportError);
  const seen = follow(watchTask, server(clock, [at(1), task('SUCCESS')]), {
    ...polled,
    onProgress() { throw new Error('mine'); },
  });
  await clock.pass(10000);
  assert.deepEqual(reported, ['mine']);
  assert.deepEqual(seen.names(), ['success']);
});

test('aborted before, during a request, and while waiting: nothing more is asked or told', async (t) => {
  const clock = world(t);
  const idle = server(clock, [at(1)]);
  assert.equal(await watchTask('/x/status/', { fetch: idle.send, signal: AbortSignal.abort() }), undefined);
  assert.equal(idle.asked.length, 0);

  for (const step of ['hang', at(1)]) {
    const played = server(clock, [step]);
    const seen = follow(watchTask, played, polled);
    await clock.settle();
    const told = seen.calls.length;
    seen.stop();
    assert.equal(await seen.done, undefined);
    await clock.pass(60000);
    assert.equal(played.asked.length, 1);
    assert.equal(seen.calls.length, told);
    assert.equal(played.asked[0].signal.aborted, step === 'hang');
    assert.equal(clock.timers, 0);
  }
});

test('nothing stays behind on the page, however the watch ends', async (t) => {
  const clock = world(t);
  for (const [last, abort] of [[task('SUCCESS'), false], [404, false], [at(1), true]]) {
    const stop = new AbortController();
    const seen = follow(watchTask, server(clock, [at(1), last]), { ...polled, signal: stop.signal });
    await clock.settle();
    const left = () => [
      [clock.document, 'visibilitychange'], [clock.window, 'online'], [clock.window, 'pagehide'],
      [clock.window, 'pageshow'], [stop.signal, 'abort'],
    ].map(([target, name]) => getEventListeners(target, name).length);
    assert.deepEqual(left(), [1, 1, 1, 1, 1]);
    if (abort) stop.abort();
    await clock.pass(60000);
    await seen.done;
    assert.deepEqual(left(), [0, 0, 0, 0, 0]);
  }
});
