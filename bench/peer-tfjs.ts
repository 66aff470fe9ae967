// tfjs 4.22 on its WebGPU backend as a contender. It submits every 15 launches by itself; what is left is submitted as its own
// read does it, so that waiting needs no copy.
import type * as Tf from '@tensorflow/tfjs';
import type { Gpu } from '../engine/index.js';
import { type ConvContender, type ConvData, type ConvWork, kernelOf } from './conv-work.js';
import { type Engine, transposed } from './peer.js';
import { tfjsStep } from './peer-step-tfjs.js';
import { tfjsTransformer } from './peer-transformer-tfjs.js';

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
    prepareTransformer: async (work) => tfjsTransformer(tf, done, work),
  };
}

function tfjsConv(tf: typeof Tf, done: () => Promise<undefined>, work: ConvWork, data: ConvData): ConvContender {
  const { batch, sides, inputs, outputs, pass } = work;
  const kernels = kernelOf(work);
  const isSolid = sides.length === 3;
  const axes = sides.map((_, i) => i + 1);
  const x = tf.tensor(data.x, [batch, ...sides, inputs]);
  const theirs = transposed(data.weight, [outputs, ...kernels, inputs], [...axes, axes.length + 1, 0]);
  const weight = tf.tensor(theirs, [...kernels, inputs, outputs]);
  const dy = tf.tensor(data.dy, [batch, ...sides, outputs]);
  // The kernels that tfjs runs in training, without the forward pass that tf.grad would run again.
  const kernel = (name: string, args: object, attributes: object): Tf.Tensor =>
    tf.engine().runKernel(name, args as never, attributes as never) as Tf.Tensor;
  const strides = { strides: sides.map(() => 1), pad: 'same' };
  const options = isSolid ? strides : { ...strides, dataFormat: 'NHWC', dimRoundingMode: undefined };
  const [forward, ofInput, ofWeight] = isSolid
    ? ['Conv3D', 'Conv3DBackpropInputV2', 'Conv3DBackpropFilterV2']
    : ['Conv2D', 'Conv2DBackpropInput', 'Conv2DBackpropFilter'];
  const compute = {
    forward: () =>
      kernel(
        forward!,
        { x, filter: weight },
        { ...options, dataFormat: isSolid ? 'NDHWC' : 'NHWC', dilations: sides.map(() => 1) },
      ),
    'input gradient': () => kernel(ofInput!, { dy, filter: weight }, { ...options, inputShape: x.shape }),
    'weight gradient': () => kernel(ofWeight!, { x, dy }, { ...options, filterShape: weight.shape }),
  }[pass];
  return {
    name: 'tfjs',
    queue: () => compute().dispose(),
    done,
    result: async () => {
      const y = compute();
      const values = (await y.data()) as Float32Array;
      y.dispose();
      return pass === 'weight gradient'
        ? transposed(
            values,
            [...kernels, inputs, outputs],
            [axes.length + 1, ...axes.map((axis) => axis - 1), axes.length],
          )
        : values;
    },
    release: () => tf.dispose([x, weight, dy]),
  };
}
