// wgrad against the other two engines of this language that train on WebGPU: tfjs on its WebGPU backend and jax-js, jitted.
// One process, one adapter, a device for each, in turns. A figure counts only if the work was really done: results are found
// equal before and after the timing, and any error on a contender's device ends the run. (tfjs drops rejected commands and
// jax-js drops results that nobody waits for, both silently, and what is dropped looks fast.)
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { backward, capture, conv, type Gpu, scope, tensor, uniformStream } from '../engine/index.js';
import { openDevice } from '../engine/node.js';
import { readCommandLine } from '../train/command-line.js';
import { UsageError } from '../train/config.js';
import { environmentOf } from '../train/environment.js';
import { type Contender, disagreement, geometricMean, race, table } from './harness.js';

export const peerNames = ['tfjs', 'jax-js'] as const;
export type PeerName = (typeof peerNames)[number];

export interface PeerResult {
  peer: PeerName;
  work: string;
  oursMs: number;
  peerMs: number;
  /** The peer's time over ours. */
  ratio: number;
  oursGflops: number;
  peerGflops: number;
}

export interface PeersReport {
  adapter: string;
  results: PeerResult[];
  geomean: Record<string, number>;
}

type Pass = 'forward' | 'input gradient' | 'weight gradient';

interface Work {
  readonly batch: number;
  readonly size: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly k: number;
  readonly pass: Pass;
}

const passes: readonly Pass[] = ['forward', 'input gradient', 'weight gradient'];
const titleOf = ({ pass, inputs, outputs, size, k, batch }: Work): string =>
  `conv ${k}×${k} ${inputs}→${outputs} @${size}² ×${batch}, ${pass}`;
const flopsOf = ({ batch, size, inputs, outputs, k }: Work): number =>
  2 * batch * size * size * inputs * outputs * k * k;

/** Inputs of one piece of work, channels last, and the shape of what it computes. */
interface Data {
  readonly x: Float32Array;
  readonly weight: Float32Array; // [O, kH, kW, C]
  readonly dy: Float32Array;
}

/** An engine that can do the work; `result` is channels last, weights [O, kH, kW, C]. */
interface Engine {
  readonly gpu: Gpu;
  prepare(work: Work, data: Data): Promise<Contender & { result(): Promise<Float32Array>; release(): void }>;
}

function makeData({ batch, size, inputs, outputs, k }: Work): Data {
  const uniform = uniformStream(7);
  const fill = (n: number): Float32Array => Float32Array.from({ length: n }, () => 2 * uniform() - 1);
  return {
    x: fill(batch * size * size * inputs),
    weight: fill(outputs * k * k * inputs),
    dy: fill(batch * size * size * outputs),
  };
}

/** Moves axes: result axis i is source axis order[i]. */
function transposed(data: Float32Array, shape: readonly number[], order: readonly number[]): Float32Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const sizes = order.map((axis) => shape[axis]!);
  const result = new Float32Array(data.length);
  const index = sizes.map(() => 0);
  for (let i = 0; i < result.length; i++) {
    result[i] = data[index.reduce((sum, n, axis) => sum + n * strides[order[axis]!]!, 0)]!;
    for (let axis = sizes.length - 1; axis >= 0 && ++index[axis]! === sizes[axis]; axis--) index[axis] = 0;
  }
  return result;
}

function ours(gpu: Gpu): Engine {
  return {
    gpu,
    async prepare(work, data) {
      const { batch, size, inputs, outputs, k, pass } = work;
      const x = tensor(gpu, data.x, [batch, size, size, inputs]);
      const weight = tensor(gpu, data.weight, [outputs, k, k, inputs]);
      const dy = tensor(gpu, data.dy, [batch, size, size, outputs]);
      x.requiresGrad = pass === 'input gradient';
      weight.requiresGrad = pass === 'weight gradient';
      const step = scope(gpu, () => {
        if (pass === 'forward') return capture(gpu, () => ({ y: conv(x, weight) }));
        const y = conv(x, weight);
        return capture(gpu, () => ({ y: backward(y, dy).get(pass === 'input gradient' ? x : weight)! }));
      });
      return {
        name: 'wgrad',
        queue: () => void step(),
        done: () => gpu.device.queue.onSubmittedWorkDone(),
        result: async () => (await step().y.read()) as Float32Array,
        release: () => {},
      };
    },
  };
}

/** What the peers need of a browser: `navigator.gpu` and WebGPU's constants. Only benchmarks ever set globals. */
async function pretendBrowser(adapter: string | undefined): Promise<Gpu[]> {
  const { globals } = (await import('webgpu')) as unknown as { globals: Record<string, unknown> };
  Object.assign(globalThis, globals);
  const opened: Gpu[] = [];
  const first = await openDevice({ adapter, quiet: true });
  const { features, limits } = first.device;
  const info = first.device.adapterInfo;
  const requestDevice = async (): Promise<GPUDevice> => {
    const gpu = await openDevice({ adapter, quiet: true });
    opened.push(gpu);
    return gpu.device;
  };
  const gpu = {
    requestAdapter: async () => ({ features, limits, info, requestDevice, requestAdapterInfo: async () => info }),
    getPreferredCanvasFormat: () => 'bgra8unorm',
    wgslLanguageFeatures: new Set(),
  };
  Object.defineProperty(globalThis, 'navigator', { value: { gpu, userAgent: 'Node' }, configurable: true });
  first.close();
  return opened;
}

async function tfjs(opened: Gpu[]): Promise<Engine> {
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
  return {
    gpu,
    async prepare({ batch, size, inputs, outputs, k, pass }, data) {
      const x = tf.tensor4d(data.x, [batch, size, size, inputs]);
      const hwio = transposed(data.weight, [outputs, k, k, inputs], [1, 2, 3, 0]);
      const weight = tf.tensor4d(hwio, [k, k, inputs, outputs]);
      const dy = tf.tensor4d(data.dy, [batch, size, size, outputs]);
      // The kernels that tfjs runs in training, without the forward pass that tf.grad would run again.
      const kernel = (name: string, args: object, attributes: object): import('@tensorflow/tfjs').Tensor =>
        tf.engine().runKernel(name, args as never, attributes as never) as import('@tensorflow/tfjs').Tensor;
      const options = { strides: [1, 1], pad: 'same', dataFormat: 'NHWC', dimRoundingMode: undefined };
      const compute = {
        forward: () => tf.conv2d(x, weight, 1, 'same'),
        'input gradient': () =>
          kernel('Conv2DBackpropInput', { dy, filter: weight }, { ...options, inputShape: x.shape }),
        'weight gradient': () => kernel('Conv2DBackpropFilter', { x, dy }, { ...options, filterShape: weight.shape }),
      }[pass];
      return {
        name: 'tfjs',
        queue: () => compute().dispose(),
        done: () => {
          // Submits every 15 launches by itself; this is the rest, as its own read does it.
          backend.endComputePassEncoder();
          if (backend.commandEncoder) backend.submitQueue();
          return gpu.device.queue.onSubmittedWorkDone();
        },
        result: async () => {
          const y = compute();
          const values = (await y.data()) as Float32Array;
          y.dispose();
          return pass === 'weight gradient' ? transposed(values, [k, k, inputs, outputs], [3, 0, 1, 2]) : values;
        },
        release: () => tf.dispose([x, weight, dy]),
      };
    },
  };
}

async function jaxJs(opened: Gpu[]): Promise<Engine> {
  const jax = await import('@jax-js/jax');
  const available = await jax.init('webgpu');
  if (!available.includes('webgpu')) throw new Error('peers: jax-js finds no WebGPU here.');
  jax.defaultDevice('webgpu');
  const gpu = opened.at(-1)!;
  const { lax, numpy: np } = jax;
  type Values = InstanceType<typeof jax.Array>;
  return {
    gpu,
    async prepare({ batch, size, inputs, outputs, k, pass }, data) {
      const image = (values: Float32Array, channels: number): Values =>
        np
          .array(
            transposed(values, [batch, size, size, channels], [0, 3, 1, 2]) as never,
            {
              shape: [batch, channels, size, size],
            } as never,
          )
          .reshape([batch, channels, size, size]);
      const x = image(data.x, inputs);
      const dy = image(data.dy, outputs);
      const weight = np
        .array(transposed(data.weight, [outputs, k, k, inputs], [0, 3, 1, 2]) as never)
        .reshape([outputs, inputs, k, k]);
      await jax.blockUntilReady([x, dy, weight] as never);
      const convolve = (a: Values, w: Values): Values => lax.convGeneralDilated(a, w, [1, 1], 'SAME');
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
        'weight gradient': jax.jit(((a: Values, w: Values, d: Values) =>
          vjp((v) => convolve(a.ref, v), w, d)) as never),
      }[pass] as unknown as (a: Values, w: Values, d: Values) => Values;
      const compute = (): Values => jitted(x.ref, weight.ref, dy.ref);
      // Results are lazy: one that is disposed of before somebody waits for it is never computed, so they are kept until then.
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
          if (pass === 'weight gradient') return transposed(values, [outputs, inputs, k, k], [0, 2, 3, 1]);
          const channels = pass === 'forward' ? outputs : inputs;
          return transposed(values, [batch, channels, size, size], [0, 2, 3, 1]);
        },
        release: () => {
          for (const a of [x, dy, weight]) a.dispose();
        },
      };
    },
  };
}

/** Convolutions as INPUTS-OUTPUTS@SIZE, 1×1 with a trailing `k1`. */
const standardShapes = '16-16@64,32-32@32,64-64@16,128-128@8';
const unetShapes =
  '1-16@64,16-16@64,32-16@64,16-4@64,32-32@32,64-32@32,64-64@16,128-64@16,128-128@8,32-16@32k1,128-64@8k1';

function readShapes(text: string, batch: number): Work[] {
  return text.split(',').flatMap((part) => {
    const found = /^(\d+)-(\d+)@(\d+)(?:k(\d+))?$/.exec(part.trim());
    if (!found) {
      throw new UsageError(
        `bench: --shapes holds '${part}', expected INPUTS-OUTPUTS@SIZE. For instance 16-16@64,32-16@32k1.`,
      );
    }
    const [inputs, outputs, size, k = 3] = found.slice(1).map((n) => (n === undefined ? undefined : Number(n)));
    return passes.map((pass) => ({ batch, inputs: inputs!, outputs: outputs!, size: size!, k, pass }));
  });
}

/** Compares the chosen peers on all works; `report` gets each row as it is known. */
export async function measurePeers(
  adapter: string | undefined,
  works: readonly Work[],
  names: readonly PeerName[],
  rounds: number,
  report: (row: PeerResult) => void,
): Promise<{ gpu: Gpu; report: PeersReport }> {
  const opened = await pretendBrowser(adapter);
  const gpu = await openDevice({ adapter });
  const engines: [PeerName, Engine][] = [];
  for (const name of names) engines.push([name, await (name === 'tfjs' ? tfjs(opened) : jaxJs(opened))]);
  const mine = ours(gpu);
  const results: PeerResult[] = [];
  for (const work of works) {
    const data = makeData(work);
    const own = await mine.prepare(work, data);
    const peers: { name: PeerName; engine: Engine; peer: Awaited<ReturnType<Engine['prepare']>> }[] = [];
    for (const [name, engine] of engines) peers.push({ name, engine, peer: await engine.prepare(work, data) });
    const check = async (when: string): Promise<void> => {
      const expected = await own.result();
      await gpu.settled();
      for (const { name, engine, peer } of peers) {
        const apart = disagreement(expected, await peer.result());
        await engine.gpu.settled().catch((error: Error) => {
          throw new Error(`peers: ${name} had an error on its device, so its figures mean nothing. ${error.message}`);
        });
        if (!(apart < 1e-4)) {
          throw new Error(`peers: ${name} and wgrad differ by ${apart} ${when} timing ${titleOf(work)}.`);
        }
      }
    };
    await check('before');
    const [oursMs, ...others] = await race([own, ...peers.map(({ peer }) => peer)], { rounds });
    await check('after');
    const rate = (ms: number): number => flopsOf(work) / ms / 1e6;
    peers.forEach(({ name, peer }, i) => {
      const peerMs = others[i]!;
      const row = {
        peer: name,
        work: titleOf(work),
        oursMs: oursMs!,
        peerMs,
        ratio: peerMs / oursMs!,
        oursGflops: rate(oursMs!),
        peerGflops: rate(peerMs),
      };
      results.push(row);
      report(row);
      peer.release();
    });
    own.release();
  }
  const geomean = Object.fromEntries(
    names.map((name) => [name, geometricMean(results.filter(({ peer }) => peer === name).map(({ ratio }) => ratio))]),
  );
  const description = gpu.adapter.driver || gpu.adapter.description || gpu.adapter.device;
  return { gpu, report: { adapter: description, results, geomean } };
}

export const help = `wgrad bench peers: convolutions against tfjs (WebGPU) and jax-js (jitted), in turns on one adapter

usage: wgrad bench peers [flags]

  --shapes LIST    INPUTS-OUTPUTS@SIZE, 1×1 with k1 behind; or unet (default: ${standardShapes})
  --batch N        images (default 4)
  --peers LIST     tfjs,jax-js (default: both)
  --rounds N       turns; the median counts (default 9)
  --adapter NAME   swiftshader, lavapipe, or a part of a GPU's name
  --save           write the result to bench/results/
  --json           one JSON document on stdout`;

/** `wgrad bench peers`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = readCommandLine('bench peers', args, {
    shapes: { type: 'string' },
    batch: { type: 'integer', min: 1 },
    peers: { type: 'string' },
    rounds: { type: 'integer', min: 1 },
    adapter: { type: 'string' },
    save: { type: 'boolean' },
    json: { type: 'boolean' },
  });
  const names = (flags.peers ?? peerNames.join()).split(',').map((name) => {
    const known = peerNames.find((peer) => peer === name.trim());
    if (!known)
      throw new UsageError(`bench: unknown peer '${name}', expected ${peerNames.join(' or ')}. Correct --peers.`);
    return known;
  });
  const shapes = flags.shapes === 'unet' ? unetShapes : (flags.shapes ?? standardShapes);
  const works = readShapes(shapes, flags.batch ?? 4);
  const loadBefore = loadavg()[0]!;
  const { gpu, report } = await measurePeers(flags.adapter, works, names, flags.rounds ?? 9, (row) =>
    console.error(
      `${row.work}: ${row.oursMs.toFixed(2)} ms, ${row.peer} ${row.peerMs.toFixed(2)} ms, ratio ${row.ratio.toFixed(2)}`,
    ),
  );
  if (flags.save) {
    const date = new Date().toISOString();
    const file = join(
      'bench/results',
      `peers-${report.adapter.toLowerCase()}-${date.slice(0, 19).replace(/:/g, '')}.json`,
    );
    mkdirSync('bench/results', { recursive: true });
    const command = ['wgrad', 'bench', 'peers', ...args].join(' ');
    // On a CPU adapter whatever else runs takes part in the measurement: ratios survive that, absolute figures do not.
    const loadAverage = { before: loadBefore, after: loadavg()[0]! };
    const saved = { date, command, environment: environmentOf(gpu), loadAverage, ...report };
    writeFileSync(file, `${JSON.stringify(saved, undefined, 2)}\n`);
    console.error(`saved ${file}`);
  }
  if (flags.json) {
    console.log(JSON.stringify(report, undefined, 2));
  } else {
    const heads = ['work', 'peer', 'wgrad ms', 'peer ms', 'wgrad GFLOP/s', 'peer GFLOP/s', 'ratio'];
    const rows = report.results.map((r) => [r.work, r.peer, r.oursMs, r.peerMs, r.oursGflops, r.peerGflops, r.ratio]);
    console.log(table([heads, ...rows]));
    const means = names.map((name) => `${report.geomean[name]!.toFixed(2)}× ${name}`);
    console.log(`${report.adapter}: geometric mean ${means.join(', ')}`);
  }
  gpu.close();
  // The peers keep devices and timers of their own and offer no way to end them.
  await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
  return 0;
}
