import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { backward, type ResizeOptions, resize, ShapeError, tensor, upsample } from '../../engine/index.js';
import { checkOp } from '../check-op.js';
import { closeTo } from '../close-to.js';
import { lacking, testGpu } from '../gpu.js';
import { ndArray } from '../reference/nd-array.js';
import { resize as reference } from '../reference/resampling.js';
import { refuses } from '../refuses.js';
import { unless } from '../unless.js';

const test = suite('resize');
const testHalf = unless(await lacking('shader-f16'), test);
const gpu = await testGpu();

/** The sizes or scales of a case; the options; the sides that come out. */
const cases: [number[], number[] | { scale: number | number[] }, ResizeOptions, number[]][] = [
  [[1, 1, 1], [3], {}, [3]],
  [[2, 5, 3], [8], {}, [8]],
  [[2, 7, 4], [3], { mode: 'nearest' }, [3]],
  [[1, 6, 1], { scale: 1.7 }, { mode: 'cubic' }, [10]],
  [[2, 4, 6, 3], [7, 4], {}, [7, 4]],
  [[1, 5, 4, 4], [9, 9], { alignCorners: true }, [9, 9]],
  [[1, 5, 4, 4], [1, 2], { alignCorners: true }, [1, 2]],
  [[1, 4, 5, 8], [8, 3], { mode: 'nearest' }, [8, 3]],
  [[1, 4, 5, 2], [7, 3], { mode: 'nearest', alignCorners: true }, [7, 3]],
  [[1, 4, 5, 4], [9, 3], { mode: 'cubic' }, [9, 3]],
  [[1, 4, 4, 1], [7, 4], { mode: 'cubic', alignCorners: true }, [7, 4]],
  [[1, 5, 7, 4], { scale: [1.5, 0.6] }, {}, [7, 4]],
  [[1, 5, 7, 3], { scale: 0.5 }, { mode: 'nearest' }, [2, 3]],
  [[1, 3, 4, 2, 3], [5, 2, 4], {}, [5, 2, 4]],
  [[2, 3, 2, 2, 4], [4, 2, 3], { alignCorners: true }, [4, 2, 3]],
  [[1, 2, 3, 4, 1], { scale: 2 }, { mode: 'nearest' }, [4, 6, 8]],
];
for (const [shape, to, options, sides] of cases) {
  test(`[${shape}] to ${JSON.stringify(to)} ${JSON.stringify(options)}`, () => {
    const { mode = 'linear', alignCorners = false } = options;
    const scale = Array.isArray(to)
      ? undefined
      : sides.map((_, k) => (Array.isArray(to.scale) ? to.scale[k]! : (to.scale as number)));
    return checkOp({
      op: (x) => resize(x!, to, options),
      reference: (x) => reference(x!, sides, scale, mode, alignCorners),
      inputs: [{ shape }],
      atol: 1e-6,
      rtol: 0,
    });
  });
}

test('positions far from the first pixel are as exact as those near it', async () => {
  const n = 801;
  const values = Float32Array.from({ length: n }, (_, i) => Math.fround(Math.sin(i * 1.3)));
  const x = tensor(gpu, values, [1, n, 1], { requiresGrad: true });
  for (const [m, mode, alignCorners] of [
    [1103, 'linear', false],
    [1103, 'linear', true],
    [459, 'cubic', false],
    [1607, 'nearest', true],
  ] as const) {
    const y = resize(x, [m], { mode, alignCorners });
    const expected = reference(ndArray([1, n, 1], values), [m], undefined, mode, alignCorners);
    closeTo(await y.read(), expected.data, { atol: mode === 'nearest' ? 0 : 5e-7 }, mode);
  }
});

test('known values: the middle of pixels, and corners on corners', async () => {
  const x = tensor(gpu, [1, 2, 3, 4], [1, 4, 1]);
  closeTo(await resize(x, [8]).read(), [1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4]);
  closeTo(await resize(x, [2]).read(), [1.5, 3.5]);
  closeTo(await resize(x, [7], { alignCorners: true }).read(), [1, 1.5, 2, 2.5, 3, 3.5, 4]);
  closeTo(await resize(x, [2], { mode: 'nearest' }).read(), [2, 4]);
  closeTo(await resize(x, [3], { mode: 'nearest', alignCorners: true }).read(), [1, 3, 4]);
  // The scale tells how far pixels are apart: 1/1.4 rather than 4/5.
  closeTo(await resize(x, { scale: 1.4 }).read(), [1, 1.5714286, 2.2857143, 3, 3.7142857], { atol: 1e-6 });
});

test('whole factors are those of upsample', async () => {
  for (const shape of [
    [2, 3, 5, 4],
    [1, 2, 3, 4, 3],
  ]) {
    const size = shape.reduce((a, b) => a * b, 1);
    const x = tensor(
      gpu,
      Float32Array.from({ length: size }, (_, i) => Math.sin(i * i)),
      shape,
      { requiresGrad: true },
    );
    for (const factor of [2, 3]) {
      const linear = upsample(x, { factor });
      const dy = tensor(
        gpu,
        Float32Array.from({ length: linear.size }, (_, i) => Math.cos(i)),
        linear.shape,
      );
      const same = resize(x, { scale: factor }, { alignCorners: true });
      closeTo(await same.read(), await linear.read(), { atol: 1e-6 });
      const gradients = [linear, same].map((y) => backward(y, dy).get(x)!.read());
      closeTo((await gradients[1])!, (await gradients[0])!, { atol: 1e-5 });
      assert.equal(
        await resize(x, { scale: factor }, { mode: 'nearest' }).read(),
        await upsample(x, { factor, mode: 'nearest' }).read(),
      );
    }
  }
});

test('its own size is a copy in every mode', async () => {
  const values = [1, Number.NaN, -0, Number.POSITIVE_INFINITY];
  const x = tensor(gpu, values, [1, 2, 2, 1], { requiresGrad: true });
  for (const mode of ['linear', 'cubic', 'nearest'] as const) {
    for (const alignCorners of [false, true]) {
      const y = resize(x, [2, 2], { mode, alignCorners });
      closeTo(await y.read(), values);
      closeTo(
        await backward(y, tensor(gpu, [1, 2, 3, 4], [1, 2, 2, 1]))
          .get(x)!
          .read(),
        [1, 2, 3, 4],
      );
    }
  }
});

test('NaN and infinities show where they have a weight, and nowhere else', async () => {
  const [n, inf] = [Number.NaN, Number.POSITIVE_INFINITY];
  const x = tensor(gpu, [1, n, 3, 4, inf], [1, 5, 1]);
  closeTo(await resize(x, [9], { alignCorners: true }).read(), [1, n, n, n, 3, 3.5, 4, inf, inf]);
  closeTo(await resize(x, [10], { mode: 'nearest' }).read(), [1, 1, n, n, 3, 3, 4, 4, inf, inf]);
  closeTo(await resize(x, [3], { mode: 'cubic', alignCorners: true }).read(), [1, 3, inf]);
});

test('gradients repeat bit for bit', async () => {
  const x = tensor(gpu, 1, [1, 9, 7, 4], { requiresGrad: true });
  const results = [];
  for (let k = 0; k < 2; k++) {
    const y = resize(x, [20, 13], { mode: 'cubic' });
    const dy = tensor(
      gpu,
      Float32Array.from({ length: y.size }, (_, i) => Math.sin(i)),
      y.shape,
    );
    results.push(await backward(y, dy).get(x)!.read());
  }
  assert.equal(results[0], results[1]);
});

testHalf('f16: stored values of f32 sums', async () => {
  const shape = [1, 4, 5, 4];
  const values = Float32Array.from({ length: 80 }, (_, i) => ((i * 37) % 80) / 16);
  const x = tensor(gpu, values, shape, { dtype: 'f16', requiresGrad: true });
  const y = resize(x, [7, 8]);
  closeTo(await y.read(), reference(ndArray(shape, values), [7, 8], undefined, 'linear', false).data, {
    rtol: 2 ** -11,
  });
  const dx = await backward(y, tensor(gpu, 1, y.shape, { dtype: 'f16' }))
    .get(x)!
    .read();
  closeTo([dx.reduce((a, b) => a + b, 0)], [y.size], { rtol: 2 ** -10 });
});

test('what does not fit is refused', async () => {
  const x = tensor(gpu, 0, [1, 4, 5, 1]);
  // biome-ignore lint/suspicious/noExplicitAny: mistakes
  const says = (to: any, options: any, message: RegExp): Promise<void> =>
    refuses(() => resize(x, to, options), ShapeError, message);
  await says(8, {}, /resize: got size 8, expected a list of 2 sizes or \{ scale \}/);
  await says(undefined, {}, /resize: got size undefined/);
  await says([8], {}, /resize: got size \[8\], expected a positive whole number, or a list of 2/);
  await says([8, 2.5], {}, /resize: got size \[8, 2.5\]/);
  await says({ scale: -1 }, {}, /resize: got scale -1, expected a positive number/);
  await says({ scale: 2, mode: 'cubic' }, {}, /unknown option 'mode'.*Options come after it/);
  await says({ scale: 0.2 }, {}, /expected sides of at least 1/);
  await says([8, 8], { mode: 'bilinear' }, /resize: got mode 'bilinear', expected 'linear', 'cubic' or 'nearest'/);
  await says([8, 8], { align_corners: true }, /Did you mean 'alignCorners'/);
  await says([8, 8], { alignCorners: 1 }, /got alignCorners 1, expected a boolean/);
  await says([8, 8], { antialias: true }, /unknown option 'antialias'.*There is no filter/);
  await refuses(() => resize(tensor(gpu, 0, [4, 1]), [8]), ShapeError, /got \[4,1\], expected \[N,L,C\]/);
  await refuses(() => resize(tensor(gpu, 0, [1, 4, 1], { dtype: 'u8' }), [8]), ShapeError, /resize.*u8/);
});

test.run();
