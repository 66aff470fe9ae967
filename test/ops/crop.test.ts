import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  addCrops,
  type Crop,
  capture,
  crop,
  cropTable,
  type Gpu,
  ShapeError,
  type Tensor,
  tensor,
  uniformStream,
} from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import * as reference from '../reference/crop.js';
import { ndArray } from '../reference/nd-array.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('crop');
const testHalf = unless(await lacking('shader-f16'), test);

const columns = cropTable([{ sides: [1, 1], first: [0, 0] }]).length;

/** A table with these rows; where there is no crop, a row of zeros. */
function table(gpu: Gpu, crops: readonly (Crop | undefined)[]): Tensor {
  const rows = new Int32Array(crops.length * columns);
  crops.forEach((each, i) => {
    if (each) rows.set(cropTable([each]), i * columns);
  });
  return tensor(gpu, rows, [crops.length, columns], { dtype: 'i32' });
}

/** Two volumes of different sizes, one after another: crops inside, over every edge, beside them, turned in all ways, and none. */
const solid = {
  sides: [3, 4, 4],
  voxels: 5 * 6 * 7 + 2 * 9 * 4,
  crops: [
    { sides: [5, 6, 7], first: [0, 0, 0] },
    { sides: [5, 6, 7], first: [1, 2, 3], turn: 5 },
    { start: 210, sides: [2, 9, 4], first: [-1, -2, 1], turn: 3 },
    { sides: [5, 6, 7], first: [4, 5, 6], turn: 8 },
    undefined,
    { sides: [5, 6, 7], first: [-2, 3, -3], turn: 14 },
    { start: 210, sides: [2, 9, 4], first: [0, 4, 0], turn: 1 },
    { sides: [5, 6, 7], first: [5, 0, 0] },
    { sides: [5, 6, 7], first: [1, 1, 2], turn: 15 },
  ] as (Crop | undefined)[],
};
const flat = {
  sides: [3, 5],
  voxels: 8 * 9,
  crops: [
    { sides: [8, 9], first: [2, 3] },
    { sides: [8, 9], first: [-1, 6], turn: 4 },
    { sides: [8, 9], first: [3, 3], turn: 2 },
    { sides: [8, 9], first: [3, 4], turn: 7 },
  ] as Crop[],
};

for (const { sides, voxels, crops } of [solid, flat]) {
  for (const rest of [[], [1], [3]]) {
    test(`crops of [${sides}] from [${[voxels, ...rest]}]`, () =>
      checkOp({
        op: (x) => crop(x!, table(x!.gpu, crops), sides),
        reference: (x) => reference.crop(x!, crops, sides),
        inputs: [{ shape: [voxels, ...rest], grad: false }],
        atol: 0,
        rtol: 0,
      }));
  }

  test(`u8, as it is and as numbers, crops of [${sides}]`, async () => {
    const input = { shape: [voxels], dtype: 'u8', range: [0, 255], grad: false } as const;
    const exact = { inputs: [input], atol: 0, rtol: 0 };
    const expected = (x?: ReturnType<typeof ndArray>) => reference.crop(x!, crops, sides);
    await checkOp({ ...exact, op: (x) => crop(x!, table(x!.gpu, crops), sides), reference: expected });
    await checkOp({
      ...exact,
      op: (x) => crop(x!, table(x!.gpu, crops), sides, { dtype: 'f32' }),
      reference: expected,
    });
  });

  testHalf(`f16, crops of [${sides}]`, async () => {
    const half = { shape: [voxels, 2], dtype: 'f16', grad: false } as const;
    const expected = (x?: ReturnType<typeof ndArray>) => reference.crop(x!, crops, sides);
    const exact = { reference: expected, atol: 0, rtol: 0 };
    await checkOp({ ...exact, inputs: [half], op: (x) => crop(x!, table(x!.gpu, crops), sides) });
    await checkOp({ ...exact, inputs: [half], op: (x) => crop(x!, table(x!.gpu, crops), sides, { dtype: 'f32' }) });
    const bytes = { shape: [voxels], dtype: 'u8', range: [0, 255], grad: false } as const;
    await checkOp({ ...exact, inputs: [bytes], op: (x) => crop(x!, table(x!.gpu, crops), sides, { dtype: 'f16' }) });
  });

  for (const isWeighted of [false, true]) {
    const weights = isWeighted
      ? sides.map((side) => Array.from({ length: side }, (_, i) => 0.5 + i / side))
      : undefined;
    test(`crops of [${sides}] added back${isWeighted ? ', weighted' : ''}: loops, any batch the same bits`, async () => {
      const gpu = await testGpu();
      const uniform = uniformStream(5);
      const shape = [crops.length, ...sides, 2];
      const y = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => 2 * uniform() - 1);
      const before = Float32Array.from({ length: 2 * voxels }, uniform);
      const sums = tensor(gpu, before, [voxels, 2]);
      addCrops(sums, tensor(gpu, y, shape), table(gpu, crops), { weights });
      const all = await sums.read();
      const expected = reference.addCrops(ndArray([voxels, 2], before), ndArray(shape, y), crops, weights);
      closeTo(all, expected.data, { atol: 1e-6 });
      const one = y.length / crops.length;
      for (const batch of [1, 4]) {
        sums.write(before);
        const values = tensor(gpu, 0, [batch, ...sides, 2]);
        const at = table(gpu, new Array(batch).fill(undefined));
        const step = capture(gpu, () => addCrops(sums, values, at, { weights }));
        for (let first = 0; first < crops.length; first += batch) {
          const part = crops.slice(first, first + batch);
          const padded = new Float32Array(batch * one).fill(7); // of no crop: it must not be added
          padded.set(y.subarray(first * one, (first + part.length) * one));
          values.write(padded);
          const rows = new Int32Array(batch * columns);
          part.forEach((each, i) => {
            if (each) rows.set(cropTable([each]), i * columns);
          });
          at.write(rows);
          step();
        }
        assert.equal(await sums.read(), all, `batches of ${batch}`);
      }
    });
  }
}

test('what was cropped, added back to zeros, is what was there', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, Float32Array.from({ length: 72 }, uniformStream(2)), [72, 1]);
  const corners = [0, 3, 5].flatMap((y) => [0, 4].map((first) => ({ sides: [8, 9], first: [y, first] })));
  const turned = corners.map((each, i) => ({ ...each, turn: [0, 4, 6, 2][i % 4]! }));
  const at = table(gpu, turned);
  const sums = tensor(gpu, 0, [72, 1]);
  const counts = tensor(gpu, 0, [72, 1]);
  const cut = crop(x, at, [3, 5]);
  addCrops(sums, cut, at);
  addCrops(counts, tensor(gpu, 1, [6, 3, 5, 1]), at);
  const [total, count, source] = await Promise.all([sums.read(), counts.read(), x.read()]);
  assert.ok(count.every((n) => n >= 1));
  closeTo(
    total.map((v, i) => v / count[i]!),
    source,
    { rtol: 1e-6 },
  );
});

test('into a tensor that is there, in a captured step', async () => {
  const gpu = await testGpu();
  const x = tensor(
    gpu,
    Float32Array.from({ length: 72 }, (_, i) => i),
    [72, 1],
  );
  const at = table(gpu, [{ sides: [8, 9], first: [0, 0] }]);
  const image = tensor(gpu, -1, [1, 2, 2, 1]);
  const step = capture(gpu, () => crop(x, at, [2, 2], { into: image }));
  step();
  assert.equal([...(await image.read())], [0, 1, 9, 10]);
  at.write(cropTable([{ sides: [8, 9], first: [7, 8] }]));
  step();
  assert.equal([...(await image.read())], [71, 0, 0, 0]);
});

test('what is beyond x, whatever the table says, is 0', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 1, [10, 1]);
  const y = crop(x, table(gpu, [{ start: 8, sides: [2, 2], first: [0, 0] }]), [2, 2]);
  assert.equal([...(await y.read())], [1, 1, 0, 0]);
  const sums = tensor(gpu, 0, [3, 1]);
  addCrops(sums, tensor(gpu, 1, [1, 2, 2, 1]), table(gpu, [{ start: 2, sides: [2, 2], first: [0, 0] }]));
  assert.equal([...(await sums.read())], [0, 0, 1]);
});

test('what does not fit is refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0, [72, 1]);
  const at = table(gpu, [{ sides: [8, 9], first: [0, 0] }]);
  const bytes = tensor(gpu, 0, [72], { dtype: 'u8' });
  const wrong = tensor(gpu, 0, [1, 8]);
  await refuses(() => crop(x, wrong, [2, 2]), ShapeError, /crop: the table is f32 \[1,8\], expected i32/);
  await refuses(() => crop(x, at, [2]), ShapeError, /crop: got crops of \[2\]/);
  await refuses(() => crop(tensor(gpu, 0, [8, 9, 1]), at, [2, 2]), ShapeError, /crop: x is \[8,9,1\]/);
  await refuses(() => crop(at, at, [2, 2]), ShapeError, /crop: cannot make 'i32' of i32/);
  await refuses(() => crop(x, at, [2, 2], { into: bytes }), ShapeError, /crop: cannot make 'u8' of f32/);
  await refuses(() => crop(x, at, [2, 2], { into: tensor(gpu, 0, [1, 2, 2]) }), ShapeError, /'into' is f32 \[1,2,2\]/);
  await refuses(() => crop(x, at, [2, 2], { inot: x } as never), ShapeError, /Did you mean 'into'/);
  await refuses(() => crop(x, at, [8, 9], { into: x }), ShapeError, /'into' is f32 \[72,1\]/);
  const square = tensor(gpu, 0, [1, 2, 2, 1]);
  await refuses(() => addCrops(bytes, square, at), ShapeError, /the sums are u8/);
  await refuses(() => addCrops(tensor(gpu, 0, [72, 2]), square, at), ShapeError, /expected f32 \[voxels,1\]/);
  await refuses(() => addCrops(x, tensor(gpu, 0, [2, 2, 2, 1]), at), ShapeError, /2 crops and 1 rows/);
  await refuses(() => addCrops(x, square, at, { weights: [[1, 1]] }), ShapeError, /weights for \[2\]/);
  const values = tensor(gpu, 0, [1, 6, 12, 1]);
  await refuses(() => addCrops(values, values, at), ShapeError, /the sums are/);
  for (const [wrongCrop, pattern] of [
    [{ sides: [8], first: [0] }, /sides of crop 1 is \[8\]/],
    [{ sides: [8, 0], first: [0, 0] }, /sides of crop 1/],
    [{ sides: [8, 9], first: [0, 0, 0] }, /first of crop 1 is \[0, 0, 0\] — expected 2 whole/],
    [{ sides: [8, 9], first: [0, 0.5] }, /first of crop 1/],
    [{ sides: [8, 9], first: [0, 0], turn: 16 }, /turn of crop 1 is 16/],
    [{ sides: [2000, 1000, 1000], first: [0, 0, 0], start: 2 ** 30 }, /start of crop 1/],
    [{ sides: [8, 9], first: [0, 0], trun: 1 }, /Did you mean 'turn'/],
  ] as [Crop, RegExp][])
    await refuses(() => cropTable([{ sides: [8, 9], first: [0, 0] }, wrongCrop]), ShapeError, pattern);
});

test.run();
