// tfjs 4.22 on its WebGPU backend as a contender. It submits every 15 launches by itself; what is left is submitted as its own
// read does it, so that waiting needs no copy.
import type * as Tf from '@tensorflow/tfjs';
import type { Gpu } from '../engine/index.js';
import type { ConvContender, ConvData, ConvWork } from './conv-work.js';
import { type Engine, transposed } from './peer.js';
import { tfjsStep } from './peer-step-tfjs.js';

/** Opens tfjs on the next device of a pretended browser. */
export async function openTfjs(opened: readonly Gpu[]): Promise<Engine> {
  const tf = await import('@tensorflow/tfjs');
  await import('@tensorflow/tfjs-backend-webgpu');
  if (!(await tf.setBackend('webgpu'))) throw new Error('peers: tfjs does not start its WebGPU backend here.');
  await tf.ready();
  const gpu = opened.at(-1)!;
  const backend = tf.backend() as unknown as {
    endComputePassEncoder(): void;
    submitQueue(): void;
    commandEncoder: GPUCommandEncoder | null;
  };
  const done = (): Promise<undefined> => {
    backend.endComputePassEncoder();
    if (backend.commandEncoder) backend.submitQueue();
    return gpu.device.queue.onSubmittedWorkDone();
  };
  return {
    gpu,
    prepareConv: async (work, data) => tfjsConv(tf, done, work, data),
    prepareStep: async (work) => tfjsStep(tf, done, work),
  };
}

function tfjsConv(
  tf: typeof Tf,
  done: () => Promise<undefined>,
  { batch, size, inputs, outputs, k, pass }: ConvWork,
  data: ConvData,
): ConvContender {
  const x = tf.tensor4d(data.x, [batch, size, size, inputs]);
  const hwio = transposed(data.weight, [outputs, k, k, inputs], [1, 2, 3, 0]);
  const weight = tf.tensor4d(hwio, [k, k, inputs, outputs]);
  const dy = tf.tensor4d(data.dy, [batch, size, size, outputs]);
  // The kernels that tfjs runs in training, without the forward pass that tf.grad would run again.
  const kernel = (name: string, args: object, attributes: object): Tf.Tensor =>
    tf.engine().runKernel(name, args as never, attributes as never) as Tf.Tensor;
  const options = { strides: [1, 1], pad: 'same', dataFormat: 'NHWC', dimRoundingMode: undefined };
  const compute = {
    forward: () => tf.conv2d(x, weight, 1, 'same'),
    'input gradient': () => kernel('Conv2DBackpropInput', { dy, filter: weight }, { ...options, inputShape: x.shape }),
    'weight gradient': () => kernel('Conv2DBackpropFilter', { x, dy }, { ...options, filterShape: weight.shape }),
  }[pass];
  return {
    name: 'tfjs',
    queue: () => compute().dispose(),
    done,
    result: async () => {
      const y = compute();
      const values = (await y.data()) as Float32Array;
      y.dispose();
      return pass === 'weight gradient' ? transposed(values, [k, k, inputs, outputs], [3, 0, 1, 2]) : values;
    },
    release: () => tf.dispose([x, weight, dy]),
  };
}
