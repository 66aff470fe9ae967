import { suite } from 'uvu';
import { convTranspose, ShapeError, tensor } from '../../../engine/index.js';
import { checkOp } from '../../check-op.js';
import { testGpu } from '../../gpu.js';
import { type NdArray, ndArray } from '../../reference/nd-array.js';
import { refuses } from '../../refuses.js';

const test = suite('convTranspose');

/** Every input pixel adds its taps to the output; 2-D is one slice with one plane of taps. */
function reference(x: NdArray, weight: NdArray, bias?: NdArray): NdArray {
  const [outputs, inputs] = [weight.shape[0]!, weight.shape.at(-1)!];
  const flat = x.shape.length === 4;
  const [batch, depth, height, width] = (flat ? [x.shape[0], 1, ...x.shape.slice(1)] : x.shape) as number[];
  const planes = flat ? 1 : 2;
  const y = ndArray([x.shape[0]!, ...x.shape.slice(1, -1).map((n) => 2 * n), outputs]);
  if (bias) y.data.forEach((_, i) => void (y.data[i] = bias.data[i % outputs]!));
  let p = 0;
  for (let n = 0; n < batch!; n++) {
    for (let d = 0; d < depth!; d++) {
      for (let h = 0; h < height!; h++) {
        for (let w = 0; w < width!; w++, p++) {
          for (let tap = 0; tap < 4 * planes; tap++) {
            const slice = (n * depth! + d) * planes + (tap >> 2);
            const pixel = (slice * 2 * height! + 2 * h + ((tap >> 1) & 1)) * 2 * width! + 2 * w + (tap & 1);
            for (let o = 0; o < outputs; o++) {
              let sum = 0;
              for (let c = 0; c < inputs; c++) {
                sum += x.data[p * inputs + c]! * weight.data[(o * 4 * planes + tap) * inputs + c]!;
              }
              y.data[pixel * outputs + o]! += sum;
            }
          }
        }
      }
    }
  }
  return y;
}

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
  test(`[${x}] to ${outputs} channels${bias ? '' : ' without bias'}`, () =>
    checkOp({
      op: (...xs) => convTranspose(xs[0]!, xs[1]!, xs[2]),
      reference: (...xs) => reference(xs[0]!, xs[1]!, xs[2]),
      inputs: [{ shape: x }, { shape: weight }, ...(bias ? [{ shape: [outputs] }] : [])],
      atol: 3e-5,
      rtol: 3e-5,
      gradAtol: 1e-3,
    }));
}

test('shapes that do not match are refused', async () => {
  const gpu = await testGpu();
  const x = tensor(gpu, 0, [1, 2, 2, 3]);
  const weight = tensor(gpu, 0, [4, 2, 2, 3]);
  await refuses(
    () => convTranspose(tensor(gpu, 0, [2, 3]), weight),
    ShapeError,
    /convTranspose: got \[2,3\], expected \[N,H,W,C\]/,
  );
  await refuses(() => convTranspose(x, tensor(gpu, 0, [4, 3, 3, 3])), ShapeError, /weight \[4,3,3,3\].*\[O,2,2,3\]/);
  await refuses(() => convTranspose(x, weight, tensor(gpu, 0, [3])), ShapeError, /bias \[3\]/);
});

test.run();
