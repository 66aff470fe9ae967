// Waiting under Node: a loop that polls in every turn, as Dawn's does, must get the core for a small part of the time only.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { restWhile } from '../../engine/node-wait.js';

const test = suite('waiting');

/** How often a poller was called while something took 200 ms. */
async function turns(wait: <T>(promise: Promise<T>) => Promise<T>): Promise<number> {
  let count = 0;
  let isPending = true;
  const poll = () => {
    count++;
    if (isPending) setImmediate(poll);
  };
  setImmediate(poll);
  await wait(new Promise((resolve) => setTimeout(resolve, 200)));
  isPending = false;
  return count;
}

test('a wait of 200 ms takes hundreds of turns of the event loop, not tens of thousands', async () => {
  const [busy, rested] = [await turns((promise) => promise), await turns(restWhile)];
  assert.ok(rested < 1000 && busy > 4 * rested, `${busy} turns, ${rested} with rests`);
  const both = turns((promise) => Promise.all([restWhile(promise), restWhile(promise)]).then(([value]) => value));
  assert.ok((await both) > 50, 'several waits rest no longer than one');
});

test('what is waited for is handed on: its value, and its error', async () => {
  assert.is(await restWhile(Promise.resolve(7)), 7);
  const error = await restWhile(Promise.reject(new Error('lost'))).catch((reason: Error) => reason.message);
  assert.is(error, 'lost');
});

test.run();
