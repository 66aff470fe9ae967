import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { empty, philox4x32, run, toUniform } from '../../engine/custom.js';
import { backward, capture, createRandom, dropout, ShapeError, tensor } from '../../engine/index.js';
import { dropoutMaskShader } from '../../shaders/dropout.js';
import { checkOp } from '../check-op.js';
import { testGpu } from '../gpu.js';
import { mapArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';

const test = suite('dropout');

/** What dropout multiplies element i with: the CPU's Philox decides. */
function factor(i: number, rate: number, seed: number, step = 0, stream = 0): number {
  const bits = philox4x32([Math.floor(i / 4), step, 0, 0], [seed, stream])[i % 4]!;
  return toUniform(bits) >= Math.fround(rate) ? 1 / (1 - rate) : 0;
}

for (const shape of [[1], [2, 3, 4], [257], [3, 7, 5, 5], [4096]]) {
  for (const rate of [0, 0.05, 0.5]) {
    test(`[${shape}] rate ${rate} drops what the CPU's generator says`, () =>
      checkOp({
        op: (x) => dropout(x!, rate, createRandom(x!.gpu, 1234)),
        reference: (x) => mapArray(x!, (v, i) => v * factor(i, rate, 1234)),
        inputs: [{ shape }],
      }));
  }
}

for (const shape of [
  [2, 3, 4],
  [3, 5, 4, 6],
  [2, 3, 2, 2, 8],
  [5, 1],
]) {
  const [items, channels] = [shape[0]!, shape.at(-1)!];
  const perItem = shape.reduce((a, b) => a * b, 1) / items;
  test(`[${shape}] drops whole channels of an item`, () =>
    checkOp({
      op: (x) => dropout(x!, 0.5, createRandom(x!.gpu, 1234), { per: 'channel' }),
      reference: (x) => {
        const number = (i: number) => Math.floor(i / perItem) * channels + (i % channels);
        return mapArray(x!, (v, i) => v * factor(number(i), 0.5, 1234));
      },
      inputs: [{ shape }],
    }));
}

test('a mask holds a bit for each element, of the numbers that dropout draws', async () => {
  const gpu = await testGpu();
  for (const rate of [0.05, 0.5]) {
    const mask = empty(gpu, [3], 'u32');
    const from = { random: createRandom(gpu, 1234).state, stream: tensor(gpu, [0], [1], { dtype: 'u32' }) };
    run(dropoutMaskShader, { ...from, mask, numbers: [rate] }, { threads: mask.size });
    const words = await mask.read();
    const bits = Array.from({ length: 96 }, (_, i) => (words[i >> 5]! >>> (i & 31)) & 1);
    assert.equal(
      bits,
      bits.map((_, i) => Number(factor(i, rate, 1234) > 0)),
    );
  }
});

const size = 100_000;

test('fraction and mean', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [size]);
  for (const rate of [0.1, 0.5, 0.8]) {
    const y = await dropout(x, rate, createRandom(gpu, 7)).read();
    const dropped = y.filter((v: number) => v === 0).length / size;
    // Five standard deviations of a binomial.
    assert.ok(Math.abs(dropped - rate) < 5 * Math.sqrt((rate * (1 - rate)) / size), `${dropped} instead of ${rate}`);
    assert.ok(y.every((v: number) => v === 0 || v === Math.fround(1 / (1 - rate))));
  }
});

test('after a restart the same masks are drawn in the same order', async () => {
  const random = createRandom(await testGpu(), 5);
  const draw = async () => {
    const masks = [];
    for (let i = 0; i < 2; i++) masks.push(await dropout(tensor(random.state.gpu, 1, [64]), 0.5, random).read());
    return masks;
  };
  const first = await draw();
  assert.is.not(first[0]!.join(), first[1]!.join());
  assert.is.not((await draw())[0]!.join(), first[0]!.join());
  random.restart();
  assert.equal(await draw(), first);
});

test('seed, step and stream each change the mask, and repeat it', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [size]);
  const draw = async (seed: number, step: number, stream: number) => {
    const random = createRandom(gpu, seed);
    random.setStep(step);
    for (let i = 0; i < stream; i++) random.next();
    return Buffer.from((await dropout(x, 0.5, random).read()).buffer);
  };
  const mask = await draw(1, 0, 0);
  assert.ok(mask.equals(await draw(1, 0, 0)));
  for (const [seed, step, stream] of [
    [2, 0, 0],
    [1, 1, 0],
    [1, 0, 1],
  ] as const) {
    const other = await draw(seed, step, stream);
    let same = 0;
    for (let i = 3; i < other.length; i += 4) if (other[i] === mask[i]) same++;
    assert.ok(
      Math.abs(same / size - 0.5) < 0.01,
      `seed ${seed} step ${step} stream ${stream}: ${same} of ${size} agree`,
    );
  }
});

test('captured: backward draws the mask of forward, every step another', async () => {
  const gpu = await testGpu();
  const random = createRandom(gpu, 3);
  const x = tensor(gpu, 1, [1001], { requiresGrad: true });
  const ones = tensor(gpu, 1, [1001]);
  const step = capture(gpu, () => {
    const y = dropout(x, 0.3, random);
    return { y, dx: backward(y, ones).get(x)! };
  });
  const seen = new Set<string>();
  for (let i = 0; i < 3; i++) {
    random.setStep(i);
    const { y, dx } = step();
    const forward = await y.read();
    assert.equal(await dx.read(), forward);
    seen.add(forward.join());
  }
  assert.is(seen.size, 3);
  random.setStep(1);
  assert.ok(seen.has((await step().y.read()).join()));
});

test('fraction of whole channels', async () => {
  const gpu = await testGpu();
  const y = await dropout(tensor(gpu, 1, [100, 3, 100]), 0.3, createRandom(gpu, 7), { per: 'channel' }).read();
  const kept = Array.from({ length: 100 * 100 }, (_, n) => y[Math.floor(n / 100) * 300 + (n % 100)]!);
  const dropped = kept.filter((v) => v === 0).length / kept.length;
  assert.ok(Math.abs(dropped - 0.3) < 5 * Math.sqrt(0.21 / kept.length), `${dropped} instead of 0.3`);
});

test('whole channels of what has none, and other options, are refused', async () => {
  const gpu = await testGpu();
  const random = createRandom(gpu, 0);
  await refuses(() => dropout(tensor(gpu, [1]), 0.5, random, { per: 'channel' }), ShapeError, /channels come last/);
  await refuses(
    () => dropout(tensor(gpu, [1]), 0.5, random, { per: 'item' as 'channel' }),
    ShapeError,
    /'element' or 'channel'/,
  );
});

test('a rate of 1 is refused', async () => {
  const gpu = await testGpu();
  await refuses(() => dropout(tensor(gpu, [1]), 1, createRandom(gpu, 0)), ShapeError, /rate.*\[0, 1\).*got 1/);
});

test.run();
