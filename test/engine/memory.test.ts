// The planner, checked on random lists against what it promises; no GPU is needed.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { FreeBuffers } from '../../engine/free-buffers.js';
import { uniformStream } from '../../engine/index.js';
import { type Plan, plan, Storage } from '../../engine/memory.js';

const test = suite('memory');

/** First and last use of every storage; kept ones live to the end. */
function livesOf(uses: Storage[][], kept: Set<Storage>): Map<Storage, [number, number]> {
  const lives = new Map<Storage, [number, number]>();
  uses.forEach((storages, i) => {
    for (const storage of storages) lives.set(storage, [lives.get(storage)?.[0] ?? i, i]);
  });
  for (const storage of kept) if (lives.has(storage)) lives.get(storage)![1] = uses.length;
  return lives;
}

function check(uses: Storage[][], kept: Set<Storage>, planned: Plan): { peak: number } {
  const lives = livesOf(uses, kept);
  const placed = planned.buffers.flatMap(({ storages }) => storages);
  assert.is(placed.length, lives.size, 'every storage has a buffer');
  assert.is(new Set(placed).size, placed.length, 'none has two');
  for (const { bytes, storages } of planned.buffers) {
    for (const [i, a] of storages.entries()) {
      assert.ok(a.bytes <= bytes, 'a buffer holds each of its storages');
      for (const b of storages.slice(i + 1)) {
        const [p, q] = [lives.get(a)!, lives.get(b)!];
        assert.ok(p[1] < q[0] || q[1] < p[0], `[${p}] and [${q}] are alive together in one buffer`);
      }
    }
  }
  let peak = 0;
  for (let i = 0; i <= uses.length; i++) {
    const alive = [...lives].filter(([, [first, last]]) => first <= i && i <= last);
    peak = Math.max(
      peak,
      alive.reduce((sum, [storage]) => sum + storage.bytes, 0),
    );
  }
  const sum = [...lives.keys()].reduce((total, { bytes }) => total + bytes, 0);
  assert.is(planned.unsharedBytes, sum);
  assert.is(
    planned.plannedBytes,
    planned.buffers.reduce((total, { bytes }) => total + bytes, 0),
  );
  assert.ok(peak <= planned.plannedBytes && planned.plannedBytes <= sum, `${peak} ≤ ${planned.plannedBytes} ≤ ${sum}`);
  return { peak };
}

/** Launches that each read some earlier storages and write a new one. */
function randomList(seed: number, length: number): { uses: Storage[][]; kept: Set<Storage> } {
  const uniform = uniformStream(seed);
  const made: Storage[] = [];
  const kept = new Set<Storage>();
  const uses = Array.from({ length }, (_, i) => {
    const inputs = made.slice(-8).filter(() => uniform() < 0.3);
    const far = made[Math.floor(uniform() * made.length)];
    const output = new Storage(4 * Math.ceil(1000 * uniform() ** 3), `t${i}`);
    made.push(output);
    if (uniform() < 0.05) kept.add(output);
    return [...inputs, ...(far && uniform() < 0.2 ? [far] : []), output];
  });
  return { uses, kept };
}

test('100 random lists keep every promise', () => {
  for (let seed = 0; seed < 100; seed++) {
    const { uses, kept } = randomList(seed, 1 + (seed % 60));
    check(
      uses,
      kept,
      plan(uses, (storage) => kept.has(storage)),
    );
  }
});

test('a chain of equal sizes needs two buffers', () => {
  const chain = Array.from({ length: 50 }, (_, i) => new Storage(64, `t${i}`));
  const uses = chain.slice(1).map((storage, i) => [chain[i]!, storage]);
  const planned = plan(uses, () => false);
  check(uses, new Set(), planned);
  assert.is(planned.buffers.length, 2);
  assert.is(planned.plannedBytes, 128);
});

test('a training-like list is planned near its peak', () => {
  // Forward: each output is used by the next launch and by its own backward; backward runs in reverse.
  const outputs = Array.from({ length: 20 }, (_, i) => new Storage(4 << (i % 10), `y${i}`));
  const gradients = outputs.map(({ bytes }, i) => new Storage(bytes, `dy${i}`));
  const uses = outputs.map((y, i) => (i ? [outputs[i - 1]!, y] : [y]));
  for (let i = outputs.length - 1; i > 0; i--) uses.push([outputs[i]!, gradients[i]!, gradients[i - 1]!]);
  const planned = plan(uses, () => false);
  const { peak } = check(uses, new Set(), planned);
  assert.ok(planned.plannedBytes <= 1.5 * peak, `${planned.plannedBytes} for a peak of ${peak}`);
});

test('the checker notices a bad plan', () => {
  const [a, b] = [new Storage(16, 'a'), new Storage(16, 'b')] as const;
  const uses = [[a], [a, b]];
  const bad: Plan = { buffers: [{ bytes: 16, storages: [a, b], kept: false }], unsharedBytes: 32, plannedBytes: 16 };
  let noticed = '';
  try {
    check(uses, new Set(), bad);
  } catch (error) {
    noticed = (error as Error).message;
  }
  assert.match(noticed, /alive together/);
});

test('WGRAD_POOL=0 shares nothing', () => {
  const { uses, kept } = randomList(3, 40);
  const planned = plan(uses, (storage) => kept.has(storage), false);
  check(uses, kept, planned);
  assert.is(planned.plannedBytes, planned.unsharedBytes);
  assert.ok(planned.buffers.every(({ storages }) => storages.length === 1));
});

test('the smallest free buffer that fits is taken, as a search through all of them says', () => {
  const uniform = uniformStream(5);
  const free = new FreeBuffers();
  const there = new Map<GPUBuffer, number>();
  const check = (): void =>
    assert.is(
      free.bytes,
      [...there.values()].reduce((sum, size) => sum + size, 0),
    );
  for (let i = 0; i < 2000; i++) {
    const size = 16 * Math.ceil(40 * uniform());
    if (uniform() < 0.6) {
      const buffer = {} as GPUBuffer;
      free.add(buffer, size);
      there.set(buffer, size);
    } else if (uniform() < 0.2 && there.size) {
      const [buffer, bytes] = [...there][Math.floor(there.size * uniform())]!;
      free.remove(buffer, bytes);
      free.remove(buffer, bytes); // is no longer there
      there.delete(buffer);
    } else {
      const fitting = [...there.values()].filter((bytes) => bytes >= size && bytes <= 2 * size);
      const taken = free.take(size, 2 * size);
      assert.is(taken && there.get(taken), fitting.length ? Math.min(...fitting) : undefined);
      if (taken) there.delete(taken);
    }
    check();
  }
  assert.ok(there.size > 100);
  assert.equal(new Set(free.clear()), new Set(there.keys()));
  assert.is(free.bytes, 0);
});

test.run();
