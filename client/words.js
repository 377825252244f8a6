// What a task's state is called. Every text can be replaced; numbers follow `lang`.

export const strings = {
  lang: 'en',
  label: 'Progress',
  pending: 'Waiting for your task to begin',
  ahead: 'Waiting for your task to begin, {ahead} ahead of it',
  begun: 'Your task has begun',
  working: 'Working on it',
  left: 'about {time} left',
  most: 'less than {time} left',
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

// What is this many times as long is a range, and what is so much longer says only its end.
const WIDE = 1.5;
const VAGUE = 4;

function unitOf(seconds, lang) {
  const [, unit, length, step] = UNITS.find(([limit]) => seconds < limit);
  const format = new Intl.NumberFormat(lang, { style: 'unit', unit, unitDisplay: 'long' });
  return { length, step, format };
}

/** "2 minutes". */
export function duration(seconds, lang) {
  const { length, step, format } = unitOf(seconds, lang);
  return format.format(Math.max(Math.round(seconds / length / step), 1) * step);
}

/** What a range of seconds reads: rounded outwards, so that it holds what it stands for. */
function range(low, high, table) {
  const { length, step, format } = unitOf(high, table.lang);
  const round = (value, how) => {
    const coarse = value < 10 * length ? step : Math.max(step, 5);
    return how(value / length / coarse) * coarse;
  };
  const [from, to] = [round(low, Math.floor), round(high, Math.ceil)];
  return from && high <= VAGUE * low && format.formatRange
    ? fill(table.left, { time: format.formatRange(from, to) })
    : fill(table.most, { time: format.format(to) });
}

function timeLeft(result, table) {
  const { time_remaining: time, time_remaining_low: low, time_remaining_high: high } = result;
  if (!known(time)) return table.working;
  if (time < 8) return table.moments;
  if (known(low) && known(high) && high >= WIDE * low) {
    return range(Math.min(low, time), Math.max(high, time), table);
  }
  return fill(table.left, { time: duration(time, table.lang) });
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
