// One-line checks of an op: its value against a float64 reference, its gradient against central differences of that
// reference with a random cotangent (a plain sum hides transposed gradients); eagerly, then captured and replayed with
// other data; in shared buffers, then in buffers of their own that start as NaN (reads of unwritten memory show).
import { backward, capture, type Dtype, scope, type Tensor, tensor, uniformStream } from '../engine/index.js';
import { fromHalf, toHalf } from '../engine/tensor.js';
import { closeTo } from './close-to.js';
import { lacking, testGpu } from './gpu.js';
import { type NdArray, ndArray } from './reference/nd-array.js';

export interface CheckedInput {
  shape: readonly number[];
  /** Default f32. Integers are drawn from `range`, both ends included. */
  dtype?: Dtype;
  /** Values keep a distance of 1/16 from this number, for ops that have no derivative there. */
  avoid?: number;
  /** Default [-2, 2]. */
  range?: readonly [number, number];
  /** These values, the same in every run, instead of random ones. */
  values?: ArrayLike<number>;
  /** False: no gradient with respect to it is wanted. Only f32 inputs have one. */
  grad?: boolean;
}

export interface OpCheck {
  op: (...xs: Tensor[]) => Tensor;
  reference: (...xs: NdArray[]) => NdArray;
  inputs: readonly CheckedInput[];
  atol?: number;
  rtol?: number;
  gradAtol?: number;
  gradRtol?: number;
}

const difference = 1e-5; // float64: truncation about 1e-10, rounding about 1e-11 of the sum

/** Nearest value an input of this type can hold. */
const rounded = (value: number, dtype: Dtype): number =>
  dtype === 'f32' ? Math.fround(value) : dtype === 'f16' ? fromHalf(toHalf(value)) : Math.round(value);

function draw(input: CheckedInput, uniform: () => number): NdArray {
  const { shape, dtype = 'f32', avoid, range = [-2, 2], values } = input;
  const x = ndArray(shape, values);
  const [low, high] = range;
  const isFloat = dtype === 'f32' || dtype === 'f16';
  for (let i = 0; i < x.data.length; i++) {
    if (values) {
      x.data[i] = rounded(x.data[i]!, dtype);
      continue;
    }
    do {
      x.data[i] = isFloat
        ? rounded(low + (high - low) * uniform(), dtype)
        : low + Math.floor((high - low + 1) * uniform());
    } while (avoid !== undefined && Math.abs(x.data[i]! - avoid) < 1 / 16);
  }
  return x;
}

interface Expected {
  xs: NdArray[];
  value: NdArray;
  cotangent: NdArray;
  /** By input: derivatives of Σ cotangent·reference at a few elements, and one along a direction of random signs. */
  gradients: ({ at: number[]; derivatives: number[]; signs: Float64Array; directional: number } | undefined)[];
}

/** Values and differences for one set of random data; at most `most` elements per input are perturbed. */
function expect(check: OpCheck, wants: boolean[], seed: number, most: number): Expected {
  const uniform = uniformStream(seed, 77);
  const xs = check.inputs.map((input) => draw(input, uniform));
  const value = check.reference(...xs);
  const cotangent = ndArray(
    value.shape,
    value.data.map(() => Math.fround(2 * uniform() - 1)),
  );
  const along = (i: number, direction: ArrayLike<number>, nonzero?: number): number => {
    const weighted = (sign: number): number => {
      const moved = ndArray(xs[i]!.shape, xs[i]!.data);
      if (nonzero === undefined) for (let k = 0; k < moved.data.length; k++) moved.data[k]! += sign * direction[k]!;
      else moved.data[nonzero]! += sign * difference;
      const y = check.reference(...xs.map((x, j) => (j === i ? moved : x)));
      return y.data.reduce((sum, v, k) => sum + v * cotangent.data[k]!, 0);
    };
    return (weighted(1) - weighted(-1)) / (2 * difference);
  };
  const gradients = xs.map((x, i) => {
    if (!wants[i]) return undefined;
    const size = x.data.length;
    const all = Array.from({ length: size }, (_, k) => k);
    for (let k = 0; k < Math.min(most, size); k++) {
      const other = k + Math.floor(uniform() * (size - k));
      [all[k], all[other]] = [all[other]!, all[k]!];
    }
    const at = all.slice(0, most);
    const signs = x.data.map(() => (uniform() < 0.5 ? -1 : 1));
    const steps = signs.map((sign) => sign * difference);
    return { at, derivatives: at.map((k) => along(i, [], k)), signs, directional: along(i, steps) };
  });
  return { xs, value, cotangent, gradients };
}

/** Checks value and gradients of `op`; throws with the mode, the input and the element that are wrong. */
export async function checkOp(check: OpCheck): Promise<void> {
  const { atol = 1e-5, rtol = 1e-5, gradAtol = 1e-4, gradRtol = 1e-3 } = check;
  const gpu = await testGpu();
  if (check.inputs.some(({ dtype }) => dtype === 'f16') && !gpu.features.has('shader-f16')) {
    throw new Error(`checkOp: an input is f16 and ${await lacking('shader-f16')}. Register the test by \`unless\`.`);
  }
  const wants = check.inputs.map(({ dtype = 'f32', grad = true }) => grad && dtype === 'f32');
  const anyGradient = wants.some(Boolean);
  const sets = [40, 10, 10].map((most, seed) => expect(check, wants, seed + 1, most));

  const compare = async (mode: string, y: Tensor, grads: (Tensor | undefined)[], expected: Expected): Promise<void> => {
    if (y.shape.join() !== expected.value.shape.join()) {
      throw new Error(`${mode}: the output's shape is [${y.shape}], the reference's [${expected.value.shape}].`);
    }
    closeTo(await y.read(), expected.value.data, { atol, rtol }, `${mode}: output`);
    for (const [i, want] of expected.gradients.entries()) {
      if (!want) continue;
      const what = `${mode}: gradient of input ${i}`;
      const dx = grads[i];
      if (!dx) throw new Error(`${what}: there is none. Return it from the closure, or say grad: false.`);
      const got = await dx.read();
      const bad = got.findIndex((v) => !Number.isFinite(v));
      if (bad >= 0) throw new Error(`${what}: element ${bad} is ${got[bad]}.`);
      closeTo(
        want.at.map((k) => got[k]!),
        want.derivatives,
        { atol: gradAtol, rtol: gradRtol },
        `${what} at elements ${want.at.slice(0, 40)}`,
      );
      // Every element takes part in this one; independent errors add up like their root mean square.
      let square = 0;
      let sum = 0;
      for (let k = 0; k < got.length; k++) {
        square += got[k]! ** 2;
        sum += got[k]! * want.signs[k]!;
      }
      const tolerance = gradAtol * Math.sqrt(got.length) + gradRtol * Math.sqrt(square);
      closeTo([sum], [want.directional], { atol: tolerance }, `${what} along a direction`);
    }
  };

  const execute = async (poisoned: boolean): Promise<void> => {
    const mode = poisoned ? 'poisoned' : 'shared buffers';
    await scope(gpu, async () => {
      const xs = check.inputs.map(({ shape, dtype = 'f32' }, i) =>
        tensor(gpu, sets[0]!.xs[i]!.data, shape, { dtype, label: `input ${i}`, requiresGrad: wants[i]! }),
      );
      const cotangent = tensor(gpu, sets[0]!.cotangent.data, sets[0]!.value.shape, { label: 'cotangent' });
      const work = (): { y: Tensor; grads: (Tensor | undefined)[] } => {
        const y = check.op(...xs);
        if (!anyGradient) return { y, grads: [] };
        const gradients = backward(y, cotangent);
        return { y, grads: xs.map((x, i) => (wants[i] ? gradients.get(x) : undefined)) };
      };
      const eager = work();
      await compare(`eager, ${mode}`, eager.y, eager.grads, sets[0]!);
      const step = capture(gpu, work);
      for (const [call, expected] of sets.entries()) {
        xs.forEach((x, i) => {
          x.write(expected.xs[i]!.data);
        });
        if (anyGradient) cotangent.write(expected.cotangent.data);
        const { y, grads } = step();
        await compare(`captured call ${call}, ${mode}`, y, grads, expected);
      }
    });
  };

  const before = { ...gpu.flags };
  try {
    await execute(false);
    Object.assign(gpu.flags, { poison: true, pool: false });
    await execute(true);
  } finally {
    Object.assign(gpu.flags, before);
  }
}
