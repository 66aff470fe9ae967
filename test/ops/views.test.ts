import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { philox4x32, toUniform } from '../../engine/custom.js';
import {
  createRandom,
  type Gpu,
  type Random,
  ShapeError,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import { mixItems, strongViews, type View, viewTable } from '../../engine/method.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { ndArray } from '../reference/nd-array.js';
import * as reference from '../reference/views.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('views');
const testHalf = unless(await lacking('shader-f16'), test);

const table = (gpu: Gpu, views: readonly View[]): Tensor =>
  tensor(gpu, viewTable(views), [views.length, viewTable([{}]).length]);

/** Items each with another turn, and boxes that reach every side; two show the same partner, one itself, one nothing. */
function viewsOf(items: number, sides: readonly number[], firstTurn = 1): View[] {
  const [depth, height, width] = (sides.length === 2 ? [1, ...sides] : sides) as [number, number, number];
  const boxes: View[] = [
    {
      partner: 1,
      firstRow: 0,
      endRow: Math.ceil(height / 2),
      firstColumn: width >> 1,
      endColumn: width,
      endPlane: depth,
    },
    { partner: 0, firstRow: 1, endRow: height, endColumn: 2 },
    { partner: -1, firstRow: height >> 1, endRow: height, endColumn: width, firstPlane: depth - 1, endPlane: depth },
    { partner: -3, endRow: height, endColumn: width, endPlane: depth },
  ];
  return Array.from({ length: items }, (_, i) => {
    const box = boxes[i % boxes.length]!;
    const isInside = box.partner === undefined || (i + box.partner >= 0 && i + box.partner < items);
    return { turn: (firstTurn + 3 * i) % 8, ...(isInside && box) };
  });
}

for (const shape of [
  [1, 1, 1, 1],
  [4, 5, 5, 3],
  [4, 6, 6, 4],
  [5, 3, 7, 1],
  [4, 3, 5, 5, 2],
  [2, 2, 4, 6, 8],
]) {
  for (const firstTurn of [0, 4]) {
    const views = viewsOf(shape[0]!, shape.slice(1, -1), firstTurn);
    test(`mixItems [${shape}], turns from ${firstTurn} on`, () =>
      checkOp({
        op: (x) => mixItems(x!, table(x!.gpu, views)),
        reference: (x) => reference.mixItems(x!, views),
        inputs: [{ shape }],
        atol: 0,
        rtol: 0,
      }));
  }
}

for (const shape of [
  [4, 6, 6],
  [4, 5, 5],
  [5, 3, 7],
  [3, 3, 5, 5],
]) {
  test(`mixItems of labels [${shape}] goes with their images`, async () => {
    const gpu = await testGpu();
    const draws = table(gpu, viewsOf(shape[0]!, shape.slice(1)));
    const size = shape.reduce((a, b) => a * b);
    const labels = Array.from({ length: size }, (_, i) => (i * 7) % 256);
    const [byByte, byFloat] = [
      await mixItems(tensor(gpu, labels, shape, { dtype: 'u8' }), draws).read(),
      await mixItems(tensor(gpu, labels, [...shape, 1]), draws).read(),
    ];
    assert.equal([...byByte], [...byFloat]);
    assert.not.equal([...byByte], labels);
  });
}

testHalf('mixItems of f16 moves bits, and adds gradients up in f32', async () => {
  const gpu = await testGpu();
  const views = viewsOf(4, [6, 6]);
  for (const channels of [3, 8]) {
    const shape = [4, 6, 6, channels];
    const values = Float32Array.from({ length: 4 * 36 * channels }, (_, i) => i / 8);
    const y = await mixItems(tensor(gpu, values, shape, { dtype: 'f16' }), table(gpu, views)).read();
    assert.equal([...y], [...reference.mixItems(ndArray(shape, values), views).data]);
  }
});

test('a table of views that are left as they are: every bit of x', async () => {
  const gpu = await testGpu();
  const values = Float32Array.from({ length: 3 * 5 * 7 }, (_, i) => Math.sin(i));
  values.set([-0, 0, Number.POSITIVE_INFINITY, 1e-42, Number.NaN]);
  const x = tensor(gpu, values, [3, 5, 7, 1]);
  const bits = (a: ArrayLike<number>) => [...new Uint32Array(Float32Array.from(a).buffer)];
  const draws = table(gpu, [{}, {}, {}]);
  for (const y of [mixItems(x, draws), strongViews(x, draws, createRandom(gpu, 3))]) {
    const got = bits(await y.read());
    bits(values).forEach((expected, i) => {
      if (!Number.isNaN(values[i]!)) assert.is(got[i], expected, `element ${i}, ${values[i]}`);
    });
  }
});

/** Element i of the normal numbers, by the CPU's Philox and Box–Muller. */
function normal(i: number, seed: number, step: number): number {
  const bits = philox4x32([Math.floor(i / 4), step, 0, 0], [seed, 0]);
  const pair = i % 4 < 2 ? 0 : 2;
  const radius = Math.sqrt(-2 * Math.log(1 - toUniform(bits[pair]!)));
  const angle = 2 * Math.PI * toUniform(bits[pair + 1]!);
  return radius * (i % 2 ? Math.sin(angle) : Math.cos(angle));
}

const intensities: View[] = [
  { gamma: 1.6, contrast: 0.6, brightness: 0.1, blur: 1, noise: 0.05 },
  { gamma: 0.61, contrast: 1.4, noise: 0.02 },
  { brightness: -0.1, blur: 0.3 },
  { blur: 0.7, gamma: 1.2 },
  { noise: 0.05 },
];

for (const shape of [
  [1, 1, 1, 1],
  [4, 5, 5, 3],
  [5, 3, 9, 1],
  [3, 2, 8, 8, 1],
]) {
  for (const isMixed of [false, true]) {
    test(`strongViews [${shape}]${isMixed ? ', mixed and turned' : ''}`, async () => {
      const mixing = viewsOf(shape[0]!, shape.slice(1, -1));
      const views = mixing.map((mixed, i) => ({ ...intensities[i]!, ...(isMixed && mixed) }));
      const drawing = async (x: Tensor): Promise<Tensor> => {
        const random: Random = createRandom(x.gpu, 41);
        random.setStep(6);
        return strongViews(x, table(x.gpu, views), random);
      };
      const gpu = await testGpu();
      const uniform = uniformStream(9);
      const x = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => uniform() * 1.5 - 0.25);
      const expected = reference.strongViews(ndArray(shape, x), views, (i) => normal(i, 41, 6));
      const y = await drawing(tensor(gpu, x, shape));
      // sin and cos of the noise are good to 2⁻¹¹ in WGSL, which is 0.05 · 4 · 2⁻¹¹ at most.
      closeTo(await y.read(), expected.data, { atol: 4e-4 });
      const still = views.map((row) => ({ ...row, noise: 0 }));
      const quiet = strongViews(tensor(gpu, x, shape), table(gpu, still), createRandom(gpu, 1));
      closeTo(await quiet.read(), reference.strongViews(ndArray(shape, x), still, () => 0).data, { atol: 2e-6 });
    });
  }
}

testHalf('strongViews of f16', async () => {
  const gpu = await testGpu();
  const shape = [3, 6, 6, 1];
  const views = viewsOf(3, [6, 6]).map((mixed, i) => ({ ...intensities[i]!, noise: 0, ...mixed }));
  const x = Float32Array.from({ length: 108 }, (_, i) => (i % 32) / 32);
  const y = strongViews(tensor(gpu, x, shape, { dtype: 'f16' }), table(gpu, views), createRandom(gpu, 0));
  closeTo(await y.read(), reference.strongViews(ndArray(shape, x), views, () => 0).data, { atol: 2e-3 });
});

test('noise is other at another step, and the same at the same', async () => {
  const gpu = await testGpu();
  const random = createRandom(gpu, 2);
  const x = tensor(gpu, 0.5, [2, 8, 8, 1]);
  const draws = table(gpu, [{ noise: 0.1 }, {}]);
  const y = async (step: number) => {
    random.setStep(step);
    return [...(await strongViews(x, draws, { ...random, next: () => 0 }).read())];
  };
  const first = await y(1);
  assert.equal(await y(1), first);
  assert.not.equal(await y(2), first);
  assert.ok(first.slice(64).every((v) => v === 0.5) && first.slice(0, 64).every((v) => v !== 0.5));
});

test('what no view has is refused', async () => {
  for (const [view, message] of [
    [{ gamma: 0 }, /gamma of view 1 is 0 — expected a number above 0/],
    [{ blur: -1 }, /blur of view 1 is -1 — expected a number of at least 0/],
    [{ noise: Number.NaN }, /noise of view 1 is NaN — expected a finite number/],
    [{ turn: 8 }, /turn of view 1 is 8 — expected a whole number from 0 to 7/],
    [{ partner: 1 }, /partner of view 1 is 1 — expected a whole number from -1 to 0/],
    [{ endRow: 1.5 }, /endRow of view 1 is 1.5 — expected a whole number of at least 0/],
    [{ gama: 2 }, /unknown option 'gama' .* Did you mean 'gamma'/],
  ] as const) {
    await refuses(() => viewTable([{}, view as View]), ShapeError, message);
  }
});

test('other shapes, types and tables are refused', async () => {
  const gpu = await testGpu();
  const draws = table(gpu, [{}, {}]);
  const random = createRandom(gpu, 0);
  const x = tensor(gpu, 0, [2, 4, 4, 1]);
  await refuses(
    () => mixItems(tensor(gpu, 0, [3, 4, 4, 1]), draws),
    ShapeError,
    /mixItems: the draws are f32 \[2,13\], expected f32 \[3,13\]/,
  );
  await refuses(
    () => strongViews(x, tensor(gpu, 0, [2, 12]), random),
    ShapeError,
    /strongViews: the draws are f32 \[2,12\]/,
  );
  await refuses(() => mixItems(tensor(gpu, 0, [2, 4, 1]), draws), ShapeError, /expected \[N,H,W,C\] or \[N,D,H,W,C\]/);
  await refuses(() => mixItems(tensor(gpu, 0, [2, 4], { dtype: 'u8' }), draws), ShapeError, /got labels \[2,4\]/);
  await refuses(() => mixItems(tensor(gpu, 0, [2, 4, 4, 1], { dtype: 'u32' }), draws), ShapeError, /f32 or all f16/);
  await refuses(() => strongViews(x, draws, 3 as unknown as Random), ShapeError, /draws from 3/);
  await refuses(() => strongViews(x, draws, random, ...([0] as never[])), ShapeError, /got 0 after/);
});

test.run();
