// The confusion matrix, counted by hand.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { countConfusion, emptyConfusion } from '../../train/evaluation/confusion.js';
import { refuses } from '../refuses.js';

const test = suite('confusion');

test('rows are the ground truth, columns the prediction; volumes add up', () => {
  const confusion = emptyConfusion(3);
  countConfusion(confusion, Uint8Array.of(0, 0, 1, 1, 2, 2, 2), Uint8Array.of(0, 1, 1, 1, 0, 2, 1));
  assert.equal(confusion, [
    [1, 1, 0],
    [0, 2, 0],
    [1, 1, 1],
  ]);
  countConfusion(confusion, Uint8Array.of(2), Uint8Array.of(0));
  assert.is(confusion[2]![0], 2);
  assert.is(
    confusion.flat().reduce((sum, n) => sum + n),
    8,
  );
});

test('a label that is no class is an error', async () => {
  await refuses(
    () => countConfusion(emptyConfusion(2), Uint8Array.of(0, 1), Uint8Array.of(0, 7)),
    RangeError,
    /labels must be below 2 — got 7/,
  );
});

test.run();
