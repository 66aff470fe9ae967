// The two-stream sampler: every slice once an epoch, a fresh order each epoch, and nothing but the iteration to remember.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createSampler } from '../../train/data/sampler.js';

const test = suite('sampler');
const options = { seed: 3, labeledSamples: 10, unlabeledSamples: 23, labeledBatch: 4, unlabeledBatch: 5 };
const stream = (iterations: number, from = 0, seed = 3) => {
  const sample = createSampler({ ...options, seed });
  return Array.from({ length: iterations }, (_, i) => sample(from + i));
};

test('every epoch is a permutation, and another one than the last', () => {
  const labeled = stream(25).flatMap((batch) => batch.labeled); // 10 epochs of 10
  const unlabeled = stream(23).flatMap((batch) => batch.unlabeled); // 5 epochs of 23
  for (const [indices, count] of [
    [labeled, 10],
    [unlabeled, 23],
  ] as const) {
    const epochs = Array.from({ length: indices.length / count }, (_, e) => indices.slice(e * count, (e + 1) * count));
    for (const epoch of epochs)
      assert.equal(
        [...epoch].sort((a, b) => a - b),
        Array.from({ length: count }, (_, i) => i),
      );
    assert.is(new Set(epochs.map((epoch) => epoch.join())).size, epochs.length);
  }
});

test('a run resumed at any iteration continues the same batches', () => {
  const whole = stream(40);
  for (const from of [1, 7, 23, 39]) assert.equal(stream(40 - from, from), whole.slice(from));
  const sample = createSampler(options);
  assert.equal([sample(30), sample(2)], [whole[30], whole[2]]); // in any order
});

test('the seed changes both streams, and the streams differ from each other', () => {
  const [a, b] = [stream(10), stream(10, 0, 4)];
  assert.not.equal(
    a.map((batch) => batch.labeled),
    b.map((batch) => batch.labeled),
  );
  assert.not.equal(
    a.map((batch) => batch.unlabeled),
    b.map((batch) => batch.unlabeled),
  );
  const sample = createSampler({ seed: 1, labeledSamples: 9, unlabeledSamples: 9, labeledBatch: 9, unlabeledBatch: 9 });
  assert.not.equal(sample(0).labeled, sample(0).unlabeled);
});

test('a batch larger than the slices there are repeats them evenly; a stream may be left out', () => {
  const few = createSampler({ ...options, labeledSamples: 3, labeledBatch: 6 })(0).labeled;
  assert.equal([...few].sort(), [0, 0, 1, 1, 2, 2]);
  const supervised = createSampler({ ...options, unlabeledSamples: 0, unlabeledBatch: 0 })(5);
  assert.is(supervised.labeled.length, 4);
  assert.equal(supervised.unlabeled, []);
});

test.run();
