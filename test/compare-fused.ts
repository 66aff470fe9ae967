// Runs the same work fused and as the composition of plain ops (WGRAD_FUSE=0), eagerly and captured, on buffers that start as NaN.
import * as assert from 'uvu/assert';
import {
  add,
  backward,
  capture,
  type Gpu,
  mul,
  scope,
  sum,
  type Tensor,
  tensor,
  uniformStream,
} from '../engine/index.js';
import { cancel, closeTo, largestOf } from './close-to.js';
import { testGpu } from './gpu.js';

/** Makes tensors with the same contents at every call of the work. */
export interface Make {
  data(shape: number[], grad?: boolean): Tensor;
  /** γ near 1 and β, of random signs. */
  norm(channels: number): { gamma: Tensor; beta: Tensor; running: { mean: Tensor; variance: Tensor } };
  readonly all: Tensor[];
  readonly gpu: Gpu;
}

function maker(gpu: Gpu): Make {
  const uniform = uniformStream(11);
  const all: Tensor[] = [];
  const fill = (n: number, f: (u: number) => number) => Float32Array.from({ length: n }, () => f(uniform()));
  const make = (shape: number[], requiresGrad: boolean, f: (u: number) => number): Tensor => {
    const t = tensor(
      gpu,
      fill(
        shape.reduce((a, b) => a * b, 1),
        f,
      ),
      shape,
      { requiresGrad },
    );
    all.push(t);
    return t;
  };
  return {
    gpu,
    all,
    data: (shape, grad = true) => make(shape, grad, (u) => 2 * u - 1),
    norm: (channels) => ({
      gamma: make([channels], true, (u) => 0.5 + u),
      beta: make([channels], true, (u) => u - 0.5),
      running: { mean: make([channels], false, () => 0), variance: make([channels], false, () => 1) },
    }),
  };
}

interface Outcome {
  values: Float32Array[];
  /** Those of `values` that are gradients: from the first to before the last. */
  gradients: [number, number];
  launches: number;
}

/** The outputs of `work`, gradients of all leaves (by a loss that weights every output differently) and running statistics. */
export async function outcome(
  fuse: boolean,
  captured: boolean,
  work: (make: Make) => () => { outputs: Tensor[] },
): Promise<Outcome> {
  const gpu = await testGpu();
  const before = { ...gpu.flags };
  Object.assign(gpu.flags, { fuse, poison: true, pool: captured });
  try {
    return await scope(gpu, async () => {
      const make = maker(gpu);
      const forward = work(make);
      const weights = uniformStream(5);
      const weighting = new Map<number, Tensor>();
      const step = () => {
        const { outputs } = forward();
        const losses = outputs.map((y, i) => {
          if (!weighting.has(i)) {
            weighting.set(
              i,
              tensor(
                gpu,
                Float32Array.from({ length: y.size }, () => weights() - 0.3),
                y.shape,
              ),
            );
          }
          return sum(mul(y, weighting.get(i)!));
        });
        const loss = losses.reduce((a, b) => add(a, b));
        const gradients = backward(loss);
        return { outputs, dx: make.all.map((x) => gradients.get(x)) };
      };
      const recorded = captured ? capture(gpu, step) : undefined;
      const { outputs, dx } = recorded ? recorded() : step();
      const values: Float32Array[] = [];
      for (const y of outputs) values.push((await y.read()) as Float32Array);
      for (const d of dx) if (d) values.push((await d.read()) as Float32Array);
      const gradients: [number, number] = [outputs.length, values.length];
      for (const x of make.all) if (!x.requiresGrad) values.push((await x.read()) as Float32Array);
      return { values, gradients, launches: recorded?.info.launches ?? 0 };
    });
  } finally {
    Object.assign(gpu.flags, before);
  }
}

/** Compares values, gradients of all leaves and running statistics; captured, fusing must save launches if `fewer`. */
export async function compare(work: (make: Make) => () => { outputs: Tensor[] }, fewer = true): Promise<void> {
  for (const captured of [false, true]) {
    const plain = await outcome(false, captured, work);
    const fused = await outcome(true, captured, work);
    assert.is(fused.values.length, plain.values.length);
    const most = Math.max(...plain.values.slice(...plain.gradients).map(largestOf));
    plain.values.forEach((expected, i) => {
      if (i >= plain.gradients[0] && i < plain.gradients[1] && cancel(fused.values[i]!, expected, most, 'f32')) return;
      const largest = largestOf(expected);
      // The same sums in another order: a few last places of the largest element.
      closeTo(fused.values[i]!, expected, { atol: 2e-5 * Math.max(largest, 0.2), rtol: 2e-5 }, `tensor ${i}`);
    });
    if (captured && fewer)
      assert.ok(fused.launches < plain.launches, `${fused.launches} of ${plain.launches} launches`);
  }
}
