// The training step of a small character transformer to compare: its weights and batch, and wgrad doing it. Before anything is timed,
// losses and gradients of the first step must agree, and the losses of three steps.
import {
  add,
  backward,
  capture,
  createAdamW,
  crossEntropy,
  type Gpu,
  pack,
  relu,
  type Tensor,
  tensor,
  uniformStream,
} from '../engine/index.js';
import {
  attentionLayer,
  embeddingLayer,
  layerNormLayer,
  linearLayer,
  moduleOf,
  Parameters,
  truncatedNormal,
} from '../model/index.js';
import type { Contender } from './harness.js';
import type { Weights } from './step-work.js';

export const transformerSizes = {
  ...{ characters: 64, width: 64, heads: 4, blocks: 2 },
  /** Places of an item, and items of a batch. */
  ...{ length: 64, items: 16 },
} as const;

/** Of AdamW, as PyTorch's. */
export const adamw = { lr: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01 } as const;

export interface TransformerWork {
  readonly sizes: typeof transformerSizes;
  /** By name; those of linear layers are [outputs, inputs]. */
  readonly initial: ReadonlyMap<string, Weights>;
  readonly characters: Uint32Array; // [items, length]
  readonly next: Uint32Array; // [items, length]
}

/** What one step computes from the initial weights. */
export interface Derivatives {
  readonly loss: number;
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

export interface TransformerContender extends Contender {
  /** Loss and gradients at the present weights, in wgrad's layout. */
  derivatives(): Promise<Derivatives>;
  /** Runs a step; resolves with its loss, that of the weights before. */
  advance(): Promise<number>;
  release(): void;
}

export const transformerTitle = ({ sizes: { blocks, width, heads, length, items } }: TransformerWork): string =>
  `transformer ${blocks}×${width}, ${heads} heads, ${length} places ×${items}`;

/** Whether weights are those of a linear layer, [outputs, inputs], which peers want the other way round. */
export const isLinear = (name: string, { shape }: Pick<Weights, 'shape'>): boolean =>
  shape.length === 2 && name.endsWith('.weight') && name !== 'embedding.weight';

/** Rows [n, characters] with a 1 at each character's place. */
export function oneHotRows(codes: Uint32Array, characters: number): Float32Array {
  const rows = new Float32Array(codes.length * characters);
  codes.forEach((code, i) => {
    rows[i * characters + code] = 1;
  });
  return rows;
}

/** wgrad's network: logits [N, T, characters] of characters u32 [N, T]. */
function network(gpu: Gpu, { characters, width, heads, blocks, length }: typeof transformerSizes) {
  const init = truncatedNormal(0.1);
  const parameters = new Parameters(gpu, 1);
  const embedding = embeddingLayer(parameters.in('embedding'), characters, width, { init });
  const places = parameters.initial('places', [length, width], init);
  const layers = Array.from({ length: blocks }, (_, i) => {
    const block = parameters.in(`block${i}`);
    const [norm1, norm2] = [layerNormLayer(block.in('norm1'), width), layerNormLayer(block.in('norm2'), width)];
    const attention = attentionLayer(block.in('attention'), width, heads, { causal: true });
    const wide = linearLayer(block.in('wide'), width, 4 * width);
    const narrow = linearLayer(block.in('narrow'), 4 * width, width);
    return (x: Tensor): Tensor => {
      const y = add(x, attention(norm1(x)));
      return add(y, narrow(relu(wide(norm2(y)))));
    };
  });
  const norm = layerNormLayer(parameters.in('norm'), width);
  const head = linearLayer(parameters.in('head'), width, characters);
  const forward = (x: Tensor): Tensor => head(norm(layers.reduce((y, block) => block(y), add(embedding(x), places))));
  return Object.assign(forward, moduleOf(parameters));
}

/** wgrad's step, and the work as the peers get it. */
export async function prepareOwnTransformer(gpu: Gpu): Promise<{ work: TransformerWork; own: TransformerContender }> {
  const { characters: count, length, items } = transformerSizes;
  const uniform = uniformStream(13);
  // A character follows from the one before, mostly, so that there is something to learn.
  const text = new Uint32Array(items * length + 1);
  for (let i = 1; i < text.length; i++) {
    text[i] = uniform() < 0.8 ? (5 * text[i - 1]! + 7) % count : Math.floor(uniform() * count);
  }
  const [characters, next] = [text.slice(0, -1), text.slice(1)];
  const model = network(gpu, transformerSizes);
  pack(model.parameters); // one launch updates them all
  const initial = new Map<string, Weights>();
  for (const [name, t] of model.state) initial.set(name, { shape: t.shape, values: await t.read() });

  const [x, labels] = [characters, next].map((codes) => tensor(gpu, codes, [items, length], { dtype: 'u32' }));
  const { lr: learningRate, ...settings } = adamw;
  const optimizer = createAdamW(model.parameters, { ...settings, learningRate });
  const lossOf = (): Tensor => crossEntropy(model(x!), labels!);
  const step = capture(gpu, () => {
    const loss = lossOf();
    optimizer.step(backward(loss));
    return { loss };
  });
  const own: TransformerContender = {
    name: 'wgrad',
    queue: () => void step(),
    done: () => gpu.wait(gpu.device.queue.onSubmittedWorkDone()),
    async derivatives() {
      const loss = lossOf();
      const found = backward(loss);
      const gradients = new Map<string, Float32Array>();
      for (const [name, t] of model.state) gradients.set(name, await found.get(t)!.read());
      return { loss: await loss.item(), gradients };
    },
    advance: () => step().loss.item(),
    release: () => {},
  };
  return { work: { sizes: transformerSizes, initial, characters, next }, own };
}

/** How far two engines are apart at the same weights. */
export interface TransformerDifference {
  /** Relative. */
  readonly loss: number;
  /** Largest difference of a gradient relative to the largest of its tensor, and of which. */
  readonly gradients: number;
  readonly worst: string;
}

/** What is accepted as rounding. */
export const transformerTolerance = 1e-4;

/**
 * Compares losses and gradients. A tensor whose gradients are below a thousandth of the largest of all is held against that: those of the
 * keys' biases are 0 but for rounding, since softmax does not see them.
 */
export function compareDerivatives(ours: Derivatives, theirs: Derivatives): TransformerDifference {
  const sizeOf = (values: Float32Array): number => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
  const least = Math.max(...[...ours.gradients.values()].map(sizeOf)) / 1000;
  let [gradients, worst] = [0, ''];
  for (const [name, values] of ours.gradients) {
    const others = theirs.gradients.get(name);
    const apart = values.reduce((most, v, i) => {
      const difference = Math.abs(v - (others?.[i] ?? Number.NaN));
      return difference <= most || Number.isNaN(most) ? most : difference;
    }, 0);
    const relative = others?.length === values.length ? apart / Math.max(least, sizeOf(values)) : Number.NaN;
    if (!(relative <= gradients)) [gradients, worst] = [relative, name];
    if (Number.isNaN(gradients)) break;
  }
  return { loss: Math.abs(ours.loss - theirs.loss) / Math.abs(ours.loss), gradients, worst };
}
