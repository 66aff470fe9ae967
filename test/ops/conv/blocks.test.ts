// Kernel 2, stride 2, and its transpose: against plain float64 loops, and against each other.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  backward,
  type ConvTransposeOptions,
  conv,
  convTranspose,
  ShapeError,
  scope,
  type Tensor,
  tensor,
  uniformStream,
} from '../../../engine/index.js';
import { checkOp } from '../../check-op.js';
import { closeTo } from '../../close-to.js';
import { lacking, testGpu } from '../../gpu.js';
import * as plain from '../../reference/conv.js';
import { type NdArray, ndArray } from '../../reference/nd-array.js';
import { refuses } from '../../refuses.js';
import { unless } from '../../unless.js';

const test = suite('blocks of two');
const testHalf = unless(await lacking('shader-f16'), test);

for (const [size, inputs, outputs, bias] of [
  [[1, 1, 1], 1, 1, true],
  [[1, 3, 5], 3, 5, true],
  [[2, 4, 6], 8, 4, true],
  [[3, 7, 5], 4, 3, false],
  [[1, 1, 257], 5, 8, true],
  [[1, 9, 11], 8, 16, true],
  [[1, 1, 1, 1], 4, 4, true],
  [[2, 3, 2, 5], 8, 4, false],
  [[1, 2, 3, 3], 3, 2, true],
] as const) {
  const x = [...size, inputs];
  const weight = [outputs, ...size.slice(1).map(() => 2), inputs];
  test(`convTranspose: [${x}] to ${outputs} channels${bias ? '' : ' without bias'}`, () =>
    checkOp({
      op: (...xs) => convTranspose(xs[0]!, xs[1]!, xs[2]),
      reference: (...xs) => plain.convTranspose(xs[0]!, xs[1]!, xs[2]),
      inputs: [{ shape: x }, { shape: weight }, ...(bias ? [{ shape: [outputs] }] : [])],
      atol: 3e-5,
      rtol: 3e-5,
      gradAtol: 1e-3,
    }));
}

test('shapes and options that do not match are refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0, [1, 2, 2, 3]);
  const weight = tensor(gpu, 0, [4, 2, 2, 3]);
  const given = (options: ConvTransposeOptions) => () => convTranspose(x, weight, undefined, options);
  await refuses(
    () => convTranspose(tensor(gpu, 0, [2, 3]), weight),
    ShapeError,
    /convTranspose: got \[2,3\], expected/,
  );
  await refuses(() => convTranspose(x, tensor(gpu, 0, [4, 2, 2, 2])), ShapeError, /3 channels, weight expects 2/);
  await refuses(() => convTranspose(x, weight, tensor(gpu, 0, [3])), ShapeError, /bias must be \[4\]/);
  await refuses(given({ outputPadding: 2 }), ShapeError, /outputPadding is 2 — expected less than stride/);
  await refuses(given({ padding: 'same', outputPadding: 1 }), ShapeError, /expected none with padding 'same'/);
  await refuses(given({ padding: 2 }), ShapeError, /gives sides \[0,0\]/);
  await refuses(given({ groups: 3 }), ShapeError, /groups is 3 — expected .* divides the 4 outputs/);
  await refuses(given({ groups: 2 }), ShapeError, /3 channels, weight expects 6/);
});

for (const [size, inputs, outputs, bias] of [
  [[1, 2, 2], 1, 1, true],
  [[2, 6, 10], 3, 5, true],
  [[1, 10, 6], 16, 4, false],
  [[2, 2, 2], 4, 16, true],
  [[1, 2, 2, 2], 5, 3, true],
  [[2, 2, 6, 10], 4, 4, true],
  [[1, 6, 2, 10], 1, 16, true],
  [[1, 10, 6, 6], 3, 4, false],
  [[1, 6, 6, 2], 16, 5, true],
] as const) {
  const x = [...size, inputs];
  const weight = [outputs, ...size.slice(1).map(() => 2), inputs];
  test(`conv: [${x}] to ${outputs} channels${bias ? '' : ' without bias'}`, () =>
    checkOp({
      op: (...xs) => conv(xs[0]!, xs[1]!, xs[2], { stride: 2 }),
      reference: (...xs) => plain.conv(xs[0]!, xs[1]!, xs[2], 2),
      inputs: [{ shape: x }, { shape: weight }, ...(bias ? [{ shape: [outputs] }] : [])],
      atol: 3e-5,
      rtol: 3e-5,
      gradAtol: 1e-3,
    }));
}

const random = (gpu: Tensor['gpu'], shape: number[], seed: number, options = {}): Tensor => {
  const uniform = uniformStream(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(
    gpu,
    Float32Array.from({ length: size }, () => 2 * uniform() - 1),
    shape,
    options,
  );
};

for (const size of [
  [6, 10],
  [2, 6, 10],
]) {
  for (const [coarse, fine] of [
    [1, 3],
    [4, 5],
    [16, 4],
    [3, 16],
  ] as const) {
    test(`⟨conv(x), y⟩ = ⟨x, convTranspose(y)⟩ at ${size}, ${fine} and ${coarse} channels`, async () => {
      const gpu = await testGpu();
      await scope(gpu, async () => {
        const x = random(gpu, [2, ...size, fine], 1);
        const y = random(gpu, [2, ...size.map((n) => n / 2), coarse], 2);
        const down = random(gpu, [coarse, ...size.map(() => 2), fine], 3);
        // The same numbers, as [fine, taps, coarse].
        const values = await down.read();
        const taps = 2 ** size.length;
        const turned = Float32Array.from(values, (_, i) => {
          const [f, t, c] = [Math.floor(i / (taps * coarse)), Math.floor(i / coarse) % taps, i % coarse];
          return values[(c * taps + t) * fine + f]!;
        });
        const up = tensor(gpu, turned, [fine, ...size.map(() => 2), coarse]);
        const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
          Array.from(a).reduce((sum, v, i) => sum + v * b[i]!, 0);
        const left = dot(await conv(x, down, undefined, { stride: 2 }).read(), await y.read());
        const right = dot(await x.read(), await convTranspose(y, up).read());
        assert.ok(Math.abs(left) > 0.01, `${left} says nothing`);
        closeTo([left], [right], { atol: 2e-5, rtol: 1e-5 });
      });
    });
  }
}

for (const [coarse, fine] of [
  [8, 4],
  [5, 3],
]) {
  for (const which of ['conv', 'convTranspose'] as const) {
    testHalf(`${which}: f16 with f32 weights, ${coarse} and ${fine} channels`, async () => {
      const gpu = await testGpu();
      await scope(gpu, async () => {
        const [inputs, outputs] = which === 'conv' ? [fine!, coarse!] : [coarse!, fine!];
        const size = which === 'conv' ? [4, 6, 8] : [2, 3, 4];
        const shape = which === 'conv' ? [2, 3, 4] : [4, 6, 8];
        const x = random(gpu, [2, ...size, inputs], 1, { dtype: 'f16', requiresGrad: true });
        const weight = random(gpu, [outputs, 2, 2, 2, inputs], 2, { requiresGrad: true });
        const bias = random(gpu, [outputs], 3, { requiresGrad: true });
        const dy = random(gpu, [2, ...shape, outputs], 4, { dtype: 'f16' });
        const y = which === 'conv' ? conv(x, weight, bias, { stride: 2 }) : convTranspose(x, weight, bias);
        assert.is(y.dtype, 'f16');
        const gradients = backward(y, dy);
        const read = async (t: Tensor): Promise<NdArray> => ndArray(t.shape, await t.read());
        const [X, W, B, DY] = [await read(x), await read(weight), await read(bias), await read(dy)];
        const expected = which === 'conv' ? plain.conv(X, W, B, 2) : plain.convTranspose(X, W, B);
        const half = { atol: 2e-3, rtol: 2e-3 }; // stored with 11 bits
        closeTo(await y.read(), expected.data, half, 'y');
        // ⟨dW, W⟩ and ⟨dx, x⟩ are both ⟨dy, y − bias⟩; and dW has f32's precision.
        const dWeight = gradients.get(weight)!;
        assert.is(dWeight.dtype, 'f32');
        const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
          Array.from(a).reduce((sum, v, i) => sum + v * b[i]!, 0);
        const withoutBias = expected.data.map((v, i) => v - B.data[i % outputs]!);
        const inner = dot(DY.data, withoutBias);
        closeTo([dot(await dWeight.read(), W.data)], [inner], { atol: 1e-4, rtol: 1e-5 }, 'dWeight');
        closeTo([dot(await gradients.get(x)!.read(), X.data)], [inner], { atol: 5e-2, rtol: 2e-3 }, 'dx');
        if (which === 'conv') {
          const { dx, dWeight: dW, dBias } = plain.convGradients(X, W, DY, 2);
          closeTo(await gradients.get(x)!.read(), dx.data, half, 'dx');
          closeTo(await dWeight.read(), dW.data, { atol: 1e-4, rtol: 1e-5 }, 'dWeight');
          closeTo(await gradients.get(bias)!.read(), dBias.data, { atol: 1e-4, rtol: 1e-5 }, 'dBias');
        }
      });
    });
  }
}

test.run();
