// The arithmetic of measurements: medians, turns, differences, tables, shares of the roofline.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Contender, disagreement, geometricMean, median, race, table } from '../../bench/harness.js';
import { shareOf } from '../../bench/roofline.js';

const test = suite('bench harness');

test('the median is the middle value, or the mean of the two middle ones, of numbers in any order', () => {
  assert.is(median([10, 9, 100]), 10);
  assert.is(median([4, 1, 3, 2]), 2.5);
  assert.is(median([7]), 7);
  const values = [3, 1, 2];
  median(values);
  assert.equal(values, [3, 1, 2]);
});

test('the geometric mean of a ratio and its inverse is 1', () => {
  assert.ok(Math.abs(geometricMean([4, 0.25]) - 1) < 1e-12);
  assert.ok(Math.abs(geometricMean([2, 8]) - 4) < 1e-12);
});

/** Takes `ms` of a call, and notes every call. */
function sleeper(name: string, ms: number, calls: string[]): Contender {
  return {
    name,
    queue: () => {
      calls.push(name);
      const until = performance.now() + ms;
      while (performance.now() < until);
    },
    done: async () => {},
  };
}

test('a race gives each contender its own time, in turns', async () => {
  const calls: string[] = [];
  const [fast, slow] = await race([sleeper('fast', 1, calls), sleeper('slow', 5, calls)], { rounds: 5, turnMs: 4 });
  assert.ok(slow! > 2 * fast!, `fast ${fast}, slow ${slow}`);
  const timed = calls.slice(6).join(' '); // after three calls of each to estimate
  const turns = timed.match(/(fast )+slow/g);
  assert.is(turns?.length, 5, timed);
});

test('disagreement is relative to the largest value; what is no number never agrees', () => {
  assert.is(disagreement([100, 1], [100, 2]), 0.01);
  assert.is(disagreement([0, 0], [0, 0]), 0);
  assert.is(disagreement([0], [3]), 3);
  assert.is(disagreement([1, 2], [1]), Number.POSITIVE_INFINITY);
  assert.is(disagreement([1, Number.NaN], [1, 2]), Number.POSITIVE_INFINITY);
  assert.is(disagreement([1, 2], [1, Number.NaN]), Number.POSITIVE_INFINITY);
});

test('a table has columns of one width, numbers to the right', () => {
  assert.is(
    table([
      ['work', 'ms'],
      ['conv', 1.234],
      ['norm', 100],
    ]),
    'work      ms\nconv    1.23\nnorm  100.00',
  );
});

test('the roofline is the slower of moving and computing', () => {
  const roofline = { gigabytesPerSecond: 10, gflops: 100 };
  const moved = shareOf({ bytes: 20e6, flops: 1e6, ms: 4 }, roofline);
  assert.is(moved.bound, 'memory');
  assert.is(moved.rooflineMs, 2);
  assert.is(moved.share, 0.5);
  assert.is(moved.gigabytesPerSecond, 5);
  const computed = shareOf({ bytes: 1e6, flops: 300e6, ms: 4 }, roofline);
  assert.is(computed.bound, 'arithmetic');
  assert.is(computed.rooflineMs, 3);
  assert.is(computed.share, 0.75);
  assert.is(computed.gflops, 75);
});

test.run();
