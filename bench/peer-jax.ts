// jax-js 0.1.25, jitted, on WebGPU as a contender. Its arrays are channels first, counted by reference (`.ref` before every use
// but the last) and lazy: one that is disposed of before somebody waits for it is never computed, so results are kept until then.
import type * as Jax from '@jax-js/jax';
import type { Gpu } from '../engine/index.js';
import { type ConvContender, type ConvData, type ConvWork, kernelOf } from './conv-work.js';
import { jaxArray, type Values } from './jax-array.js';
import { type Engine, transposed } from './peer.js';
import { jaxStep } from './peer-step-jax.js';
import { jaxTransformer } from './peer-transformer-jax.js';

/** Opens jax-js on the next device of a pretended browser. */
export async function openJaxJs(opened: readonly Gpu[]): Promise<Engine> {
  const jax = await import('@jax-js/jax');
  const available = await jax.init('webgpu');
  if (!available.includes('webgpu')) throw new Error('peers: jax-js finds no WebGPU here.');
  jax.defaultDevice('webgpu');
  return {
    gpu: opened.at(-1)!,
    prepareConv: (work, data) => jaxConv(jax, work, data),
    prepareStep: async (work) => jaxStep(jax, work),
    prepareTransformer: async (work) => jaxTransformer(jax, work),
  };
}

async function jaxConv(jax: typeof Jax, work: ConvWork, data: ConvData): Promise<ConvContender> {
  const { batch, sides, inputs, outputs, pass } = work;
  const kernels = kernelOf(work);
  // From channels last to channels second, and back.
  const forth = [0, sides.length + 1, ...sides.map((_, i) => i + 1)];
  const back = [0, ...sides.map((_, i) => i + 2), 1];
  const image = (values: Float32Array, channels: number): Values =>
    jaxArray(jax, transposed(values, [batch, ...sides, channels], forth), [batch, channels, ...sides]);
  const x = image(data.x, inputs);
  const dy = image(data.dy, outputs);
  const weight = jaxArray(jax, transposed(data.weight, [outputs, ...kernels, inputs], forth), [
    outputs,
    inputs,
    ...kernels,
  ]);
  await jax.blockUntilReady([x, dy, weight] as never);
  const convolve = (a: Values, w: Values): Values =>
    jax.lax.convGeneralDilated(
      a,
      w,
      sides.map(() => 1),
      'SAME',
    );
  const vjp = (f: (a: Values) => Values, at: Values, seed: Values): Values => {
    const [y, pull] = jax.vjp(f as never, [at] as never) as unknown as [Values, (dy: Values) => Values[]];
    y.dispose();
    const [gradient] = pull(seed);
    (pull as unknown as { dispose?: () => void }).dispose?.();
    return gradient!;
  };
  const jitted = {
    forward: jax.jit(((a: Values, w: Values, d: Values) => {
      d.dispose();
      return convolve(a, w);
    }) as never),
    'input gradient': jax.jit(((a: Values, w: Values, d: Values) => vjp((v) => convolve(v, w.ref), a, d)) as never),
    'weight gradient': jax.jit(((a: Values, w: Values, d: Values) => vjp((v) => convolve(a.ref, v), w, d)) as never),
  }[pass] as unknown as (a: Values, w: Values, d: Values) => Values;
  const compute = (): Values => jitted(x.ref, weight.ref, dy.ref);
  let waiting: Values[] = [];
  return {
    name: 'jax-js',
    queue: () => void waiting.push(compute()),
    done: async () => {
      await Promise.all(waiting.map((y) => y.blockUntilReady()));
      for (const y of waiting) y.dispose();
      waiting = [];
    },
    result: async () => {
      const values = (await compute().data()) as Float32Array; // data() disposes of the array
      if (pass === 'weight gradient') return transposed(values, [outputs, inputs, ...kernels], back);
      const channels = pass === 'forward' ? outputs : inputs;
      return transposed(values, [batch, channels, ...sides], back);
    },
    release: () => {
      for (const a of [x, dy, weight]) a.dispose();
    },
  };
}
