// The transformer's training step in tfjs, as fast as its ops allow: linear layers are one launch with their bias and ReLU, layer norm is
// four and has its closed-form gradient (tfjs' own composes it of about three times as many), weights and AdamW's moments are one flat
// tensor each, and characters come as rows with a 1 each, so that an embedding is a product.
import type * as Tf from '@tensorflow/tfjs';
import { transposed } from './peer.js';
import { adamw, isLinear, oneHotRows, type TransformerContender, type TransformerWork } from './transformer-work.js';

type Named = ReadonlyMap<string, Tf.Tensor>;

/** The loss as a function of named weights; linear ones are [inputs, outputs]. */
function lossOf(tf: typeof Tf, { sizes, characters, next }: TransformerWork) {
  const { characters: count, width, heads, blocks, length, items } = sizes;
  const rows = items * length;
  const [x, labels] = [characters, next].map((codes) => tf.tensor2d(oneHotRows(codes, count), [rows, count]));
  const hidden = Array.from({ length: length * length }, (_, i) => (i % length > Math.floor(i / length) ? -1e9 : 0));
  const mask = tf.tensor2d(hidden, [length, length]);

  const asImage = (t: Tf.Tensor): Tf.Tensor4D => tf.reshape(t, [1, 1, t.shape[0]!, t.shape[1]!]);
  const layerNorm = tf.customGrad((...args: unknown[]) => {
    const [input, gamma, beta] = args as Tf.Tensor[];
    const save = args.at(-1) as (tensors: Tf.Tensor[]) => void;
    const mean = tf.mean(input!, 1, true);
    const variance = tf.mean(tf.squaredDifference(input!, mean), 1, true);
    // Normalises, scales and shifts in one launch: every argument broadcasts.
    const normalized = (scale?: Tf.Tensor4D, shift?: Tf.Tensor4D): Tf.Tensor =>
      tf.reshape(tf.batchNorm4d(asImage(input!), asImage(mean), asImage(variance), shift, scale, 1e-5), input!.shape);
    const row = (t: Tf.Tensor): Tf.Tensor4D => tf.reshape(t, [1, 1, 1, width]);
    save([input!, gamma!, mean, variance]);
    const gradFunc = (dy: Tf.Tensor): Tf.Tensor[] => {
      const unit = normalized();
      const g = tf.mul(dy, gamma!);
      const common = tf.add(tf.mean(g, 1, true), tf.mul(unit, tf.mean(tf.mul(g, unit), 1, true)));
      const dx = tf.mul(tf.sub(g, common), tf.rsqrt(tf.add(variance, 1e-5)));
      return [dx, tf.sum(tf.mul(dy, unit), 0), tf.sum(dy, 0)];
    };
    return { value: normalized(row(gamma!), row(beta!)), gradFunc };
  });

  const loss = (w: Named): Tf.Scalar => {
    const norm = (t: Tf.Tensor, name: string): Tf.Tensor =>
      layerNorm(t, w.get(`${name}.weight`)!, w.get(`${name}.bias`)!);
    const linear = (a: Tf.Tensor, name: string, activation: 'linear' | 'relu' = 'linear'): Tf.Tensor2D =>
      tf.fused.matMul({
        a: a as Tf.Tensor2D,
        b: w.get(`${name}.weight`) as Tf.Tensor2D,
        bias: w.get(`${name}.bias`)!,
        activation,
      }) as Tf.Tensor2D;
    const attention = (t: Tf.Tensor, name: string): Tf.Tensor => {
      const split = (part: string): Tf.Tensor =>
        tf.transpose(
          tf.reshape(linear(t, `${name}.${part}_proj`), [items, length, heads, width / heads]),
          [0, 2, 1, 3],
        );
      const scores = tf.mul(tf.matMul(split('q'), split('k'), false, true), 1 / Math.sqrt(width / heads));
      const mixed = tf.matMul(tf.softmax(tf.add(scores, mask)), split('v'));
      return linear(tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [rows, width]), `${name}.out_proj`);
    };
    const embedded = tf.reshape(tf.matMul(x!, w.get('embedding.weight')!), [items, length, width]);
    let y: Tf.Tensor = tf.reshape(tf.add(embedded, w.get('places')!), [rows, width]);
    for (let i = 0; i < blocks; i++) {
      y = tf.add(y, attention(norm(y, `block${i}.norm1`), `block${i}.attention`));
      y = tf.add(y, linear(linear(norm(y, `block${i}.norm2`), `block${i}.wide`, 'relu'), `block${i}.narrow`));
    }
    const logP = tf.logSoftmax(linear(norm(y, 'norm'), 'head'));
    return tf.div(tf.sum(tf.mul(logP, labels!)), -rows);
  };
  return { loss, inputs: [x!, labels!, mask] };
}

/** The step in tfjs; `done` resolves when all that was queued has run. */
export function tfjsTransformer(
  tf: typeof Tf,
  done: () => Promise<undefined>,
  work: TransformerWork,
): TransformerContender {
  const { loss, inputs } = lossOf(tf, work);
  let size = 0;
  const places = [...work.initial].map(([name, { shape }]) => {
    const place = { name, shape: isLinear(name, { shape }) ? shape.toReversed() : shape, at: size };
    size += shape.reduce((a, b) => a * b, 1);
    return { ...place, size: size - place.at };
  });
  const values = new Float32Array(size);
  for (const { name, at } of places) {
    const w = work.initial.get(name)!;
    values.set(isLinear(name, w) ? transposed(w.values, w.shape, [1, 0]) : w.values, at);
  }
  let [weights, means, squares] = [tf.tensor1d(values), tf.zeros([size]), tf.zeros([size])] as Tf.Tensor[];
  let lastLoss: Tf.Tensor = tf.scalar(0);
  let steps = 0;

  /** The loss, and all gradients in a row. */
  const derive = (): { value: Tf.Tensor; gradient: Tf.Tensor } => {
    const parts = places.map(({ at, size: count, shape }) => tf.reshape(tf.slice(weights!, [at], [count]), [...shape]));
    const named = (tensors: Tf.Tensor[]): Named => new Map(places.map(({ name }, i) => [name, tensors[i]!]));
    const { value, grads } = tf.valueAndGrads((...tensors: Tf.Tensor[]) => loss(named(tensors)))(parts);
    return { value, gradient: tf.concat(grads.map((g) => tf.reshape(g, [-1]))) };
  };
  const run = (): void => {
    const before = [weights!, means!, squares!, lastLoss];
    const { lr, beta1, beta2, epsilon, weightDecay } = adamw;
    steps++;
    const after = tf.tidy(() => {
      const { value, gradient } = derive();
      const a = tf.add(tf.mul(means!, beta1), tf.mul(gradient, 1 - beta1));
      const b = tf.add(tf.mul(squares!, beta2), tf.mul(tf.square(gradient), 1 - beta2));
      const size = tf.add(tf.sqrt(tf.mul(b, 1 / (1 - beta2 ** steps))), epsilon);
      const change = tf.div(tf.mul(a, lr / (1 - beta1 ** steps)), size);
      return [tf.sub(tf.mul(weights!, 1 - lr * weightDecay), change), a, b, value];
    });
    [weights, means, squares, lastLoss] = after as [Tf.Tensor, Tf.Tensor, Tf.Tensor, Tf.Tensor];
    tf.dispose(before);
  };
  return {
    name: 'tfjs',
    queue: run,
    done,
    async derivatives() {
      const { value, gradient } = tf.tidy(derive);
      const [[found], all] = (await Promise.all([value.data(), gradient.data()])) as [Float32Array, Float32Array];
      tf.dispose([value, gradient]);
      const gradients = places.map(({ name, shape, at, size: count }): [string, Float32Array] => {
        const own = all.slice(at, at + count);
        return [name, isLinear(name, { shape }) ? transposed(own, shape, [1, 0]) : own];
      });
      return { loss: found!, gradients: new Map(gradients) };
    },
    async advance() {
      run();
      return ((await lastLoss.data()) as Float32Array)[0]!;
    },
    release: () => tf.dispose([weights!, means!, squares!, lastLoss, ...inputs]),
  };
}
