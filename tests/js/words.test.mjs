import assert from 'node:assert/strict';
import test from 'node:test';
import { describe, duration, strings } from '../../jobtastic_ext/web/client/words.js';
import { at, task } from './world.mjs';

const text = (given, table) => describe(given, table).text;
const running = (result) => task('PROGRESS', { progress_percent: 40, ...result });

test('every state has words of its own', () => {
  const seen = [
    task('PENDING'), task('STARTED'), task('RETRY'), task('SUCCESS'), task('FAILURE', 'no'),
    task('FAILURE', 'no', { lost: true }), task('REVOKED'), at(0), at(50), at(100),
    running({ time_remaining: 120 }), running({ time_remaining: 3 }),
    task('PENDING', null, { queue: { ahead: 3 } }),
  ].map((given) => text(given));
  assert.equal(seen[0], 'Waiting for your task to begin');
  assert.ok(seen.every(Boolean));
  // STARTED, and a progress of which the time is not known, are the same to a reader.
  assert.equal(new Set(seen).size, seen.length - 1);
});

test('what is unknown is not shown as a number', () => {
  for (const percent of [undefined, null, NaN, Infinity, -1, '40']) {
    const { state, percent: shown, figure } = describe(task('PROGRESS', { progress_percent: percent }));
    assert.deepEqual([state, shown, figure], ['progress', null, '']);
  }
  assert.equal(describe(task('PROGRESS', null)).percent, null);
  for (const left of [undefined, null, -1, NaN, Infinity]) {
    assert.equal(text(running({ time_remaining: left })), strings.working);
  }
});

test('100 percent is not said before it is so', () => {
  assert.deepEqual([describe(at(99.99)).figure, describe(at(100)).figure], ['99%', '100%']);
  assert.equal(describe(at(250)).percent, 100);
  assert.equal(describe(running({ estimated: true })).figure, '~40%');
});

test('durations are as coarse as one would say them', () => {
  const said = [[8, '10 seconds'], [33, '35 seconds'], [54, '55 seconds'], [55, '1 minute'],
    [127, '2 minutes'], [3299, '55 minutes'], [3300, '1 hour'], [5400, '1.5 hours'],
    [86400, '24 hours'], [200000, '2.5 days']];
  for (const [seconds, expected] of said) assert.equal(duration(seconds, 'en'), expected);
});

test('a wide range is said as one, a narrow one is not', () => {
  const left = (time, low, high) => text(running(
    { time_remaining: time, time_remaining_low: low, time_remaining_high: high }));
  assert.equal(left(200, 120, 300), 'about 2–5 minutes left');
  assert.equal(left(200, 190, 210), 'about 3 minutes left');
  assert.equal(left(200, null, null), 'about 3 minutes left');
  assert.equal(left(3, 1, 6), 'a few seconds left');
});

test('a range never says zero', () => {
  assert.equal(duration(70, 'en', 1, 400), '1–7 minutes');
});

test('the message of a failure is shown, and only text', () => {
  assert.equal(describe(task('FAILURE', 'division by zero')).message, 'division by zero');
  assert.equal(describe(task('FAILURE', { exc_type: 'X' })).message, '');
  assert.equal(describe(running({ message: 'Sheet 3' })).message, 'Sheet 3');
});

test('another language', () => {
  const table = { ...strings, lang: 'de', left: 'noch etwa {time}', estimated: 'etwa {percent}' };
  assert.equal(text(running({ time_remaining: 120 }), table), 'noch etwa 2 Minuten');
  assert.equal(describe(running({ estimated: true }), table).figure, 'etwa 40\u00a0%');
});
