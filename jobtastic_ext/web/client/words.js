// What a task's state is called. Every text can be replaced; numbers follow `lang`.

export const strings = {
  lang: 'en',
  label: 'Progress',
  pending: 'Waiting for your task to begin',
  ahead: 'Waiting for your task to begin, {ahead} ahead of it',
  begun: 'Your task has begun',
  working: 'Working on it',
  left: 'about {time} left',
  moments: 'a few seconds left',
  finishing: 'Almost done',
  estimated: '~{percent}',
  retry: 'That did not work. Trying again soon',
  success: 'Done',
  failure: 'Your task failed',
  revoked: 'Your task was cancelled',
  lost: 'Your task was interrupted and will not go on. Please start it again',
  error: 'No connection to the server. Still trying',
  gone: 'The state of your task cannot be read',
};

const UNITS = [
  // up to (seconds), unit, its length, rounded to
  [55, 'second', 1, 5],
  [3300, 'minute', 60, 1],
  [36 * 3600, 'hour', 3600, 0.5],
  [Infinity, 'day', 86400, 0.5],
];

const known = (value) => typeof value === 'number' && isFinite(value) && value >= 0;
const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);

/** "2 minutes", or "2–5 minutes" where `low` and `high` (seconds) are far apart. */
export function duration(seconds, lang, low, high) {
  const wide = known(low) && known(high) && high >= 10 && high >= 1.5 * low;
  const [, unit, length, step] = UNITS.find(([limit]) => (wide ? high : seconds) < limit);
  const round = (value) => Math.max(Math.round(value / length / step), 1) * step;
  const format = new Intl.NumberFormat(lang, { style: 'unit', unit, unitDisplay: 'long' });
  if (wide && format.formatRange && round(low) < round(high)) {
    return format.formatRange(round(low), round(high));
  }
  return format.format(round(seconds));
}

function timeLeft(result, table) {
  const { time_remaining: time, time_remaining_low: low, time_remaining_high: high } = result;
  if (!known(time)) return table.working;
  if (time < 8 && !(high >= 10)) return table.moments;
  return fill(table.left, { time: duration(time, table.lang, low, high) });
}

function waiting(task, table) {
  const { ahead } = task.queue ?? {};
  return known(ahead) && ahead > 0 ? fill(table.ahead, { ahead }) : table.pending;
}

/** What to show of a task: {state, percent (or null), figure, text, message}. */
export function describe(task, table = strings) {
  const { status, result } = task;
  const is = (state, text, percent = null, message = '') =>
    ({ state, percent, figure: '', text, message });
  if (status === 'SUCCESS') return is('success', table.success, 100);
  if (task.lost) return is('failure', table.lost);
  if (status === 'FAILURE') {
    return is('failure', table.failure, null, typeof result === 'string' ? result : '');
  }
  if (status === 'REVOKED') return is('revoked', table.revoked);
  if (status === 'RETRY') return is('retry', table.retry);
  if (status === 'PENDING' || status === 'RECEIVED') return is('pending', waiting(task, table));
  const seen = is('progress', table.working, null, result?.message ?? '');
  if (!known(result?.progress_percent)) return seen;
  const percent = Math.min(result.progress_percent, 100);
  // Rounded down: 100 % is said when all is done.
  const figure = new Intl.NumberFormat(table.lang, { style: 'percent' })
    .format(Math.floor(percent) / 100);
  seen.percent = percent;
  seen.figure = result.estimated ? fill(table.estimated, { percent: figure }) : figure;
  if (percent === 0) seen.text = table.begun;
  else seen.text = percent === 100 ? table.finishing : timeLeft(result, table);
  return seen;
}
