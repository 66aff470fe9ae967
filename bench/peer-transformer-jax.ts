// The transformer's training step in jax-js: one jitted function, from weights to weights. Attention is what its own dotProductAttention
// does, without einsum, which needs Node 22. Characters come as rows with a 1 each, so that an embedding is a product. Inside of a traced function references only guard against use after free, so
// everything is used by `.ref`.
import type * as Jax from '@jax-js/jax';
import { jaxArray, type Values } from './jax-array.js';
import { transposed } from './peer.js';
import type { Weights } from './step-work.js';
import { adamw, isLinear, oneHotRows, type TransformerContender, type TransformerWork } from './transformer-work.js';

type Named = Record<string, Values>;

/** Everything that outlives a step; `powers` are β1ᵗ and β2ᵗ. */
interface State {
  weights: Named;
  means: Named;
  squares: Named;
  powers: [Values, Values];
}

interface Inputs {
  x: Values; // [N·T, characters]
  labels: Values; // [N·T, characters]
}

/** The loss of named weights; linear ones are [inputs, outputs]. */
function lossOf({ numpy: np, nn }: typeof Jax, { sizes }: TransformerWork) {
  const { width, heads, blocks, length, items } = sizes;
  const rows = items * length;
  return (w: Named, { x, labels }: Inputs): Values => {
    const linear = (t: Values, name: string): Values =>
      np.matmul(t.ref, w[`${name}.weight`]!.ref).add(w[`${name}.bias`]!.ref);
    const norm = (t: Values, name: string): Values => {
      const centred = t.ref.sub(np.mean(t.ref, 1, { keepdims: true }));
      const variance = np.mean(np.square(centred.ref), 1, { keepdims: true });
      const unit = centred.div(np.sqrt(variance.add(1e-5)));
      return unit.mul(w[`${name}.weight`]!.ref).add(w[`${name}.bias`]!.ref);
    };
    const attention = (t: Values, name: string): Values => {
      const split = (part: string, ...order: number[]): Values =>
        linear(t, `${name}.${part}_proj`)
          .reshape([items, length, heads, width / heads])
          .transpose(order);
      const scores = np.matmul(split('q', 0, 2, 1, 3), split('k', 0, 2, 3, 1)).mul(1 / Math.sqrt(width / heads));
      const seen = np.where(np.tri(length, length, 0, { dtype: np.bool }), scores, Number.NEGATIVE_INFINITY);
      const mixed = np.matmul(nn.softmax(seen, -1), split('v', 0, 2, 1, 3)).transpose([0, 2, 1, 3]);
      return linear(mixed.reshape([rows, width]), `${name}.out_proj`);
    };
    const embedded = np.matmul(x.ref, w['embedding.weight']!.ref).reshape([items, length, width]);
    let y = embedded.add(w.places!.ref).reshape([rows, width]);
    for (let i = 0; i < blocks; i++) {
      y = y.ref.add(attention(norm(y, `block${i}.norm1`), `block${i}.attention`));
      const wide = nn.relu(linear(norm(y, `block${i}.norm2`), `block${i}.wide`));
      y = y.ref.add(linear(wide, `block${i}.narrow`));
    }
    const logP = nn.logSoftmax(linear(norm(y, 'norm'), 'head'), 1);
    return logP.mul(labels.ref).sum(1).sum().div(-rows);
  };
}

/** The step in jax-js. */
export function jaxTransformer(jax: typeof Jax, work: TransformerWork): TransformerContender {
  const { numpy: np } = jax;
  const { characters: count, items, length } = work.sizes;
  const names = [...work.initial.keys()];
  const named = (make: (name: string, w: Weights) => Values): Named =>
    Object.fromEntries([...work.initial].map(([name, w]) => [name, make(name, w)]));
  const shapeOf = (name: string, w: Weights): readonly number[] => (isLinear(name, w) ? w.shape.toReversed() : w.shape);
  const number = (value: number): Values => jaxArray(jax, Float32Array.of(value), []);

  const derive = (w: Named, inputs: Inputs): [Values, Named] =>
    (jax.valueAndGrad(lossOf(jax, work) as never) as (w: Named, inputs: Inputs) => unknown)(w, inputs) as [
      Values,
      Named,
    ];
  const derived = jax.jit(derive as never) as unknown as typeof derive;
  const step = jax.jit((({ weights, means, squares, powers }: State, inputs: Inputs) => {
    const { lr, beta1, beta2, epsilon, weightDecay } = adamw;
    const inside = jax.tree.ref(weights as never) as Named;
    const [loss, gradients] = derive(inside, inputs);
    const next = [powers[0].mul(beta1), powers[1].mul(beta2)] as const;
    const [first, second] = next.map((power) => np.reciprocal(power.ref.mul(-1).add(1)));
    const moved: Pick<State, 'weights' | 'means' | 'squares'> = { weights: {}, means: {}, squares: {} };
    for (const name of names) {
      const g = gradients[name]!;
      const a = means[name]!.ref.mul(beta1).add(g.ref.mul(1 - beta1));
      const b = squares[name]!.ref.mul(beta2).add(np.square(g.ref).mul(1 - beta2));
      const size = np.sqrt(b.ref.mul(second!.ref)).add(epsilon);
      const change = a.ref.mul(first!.ref).mul(lr).div(size);
      moved.weights[name] = weights[name]!.ref.mul(1 - lr * weightDecay).sub(change);
      moved.means[name] = a;
      moved.squares[name] = b;
    }
    return { state: { ...moved, powers: next }, loss };
  }) as never) as unknown as (state: State, inputs: Inputs) => { state: State; loss: Values };

  const inputs: Inputs = {
    x: jaxArray(jax, oneHotRows(work.characters, count), [items * length, count]),
    labels: jaxArray(jax, oneHotRows(work.next, count), [items * length, count]),
  };
  const zeros = (): Named => named((name, w) => jaxArray(jax, new Float32Array(w.values.length), shapeOf(name, w)));
  let state: State = {
    weights: named((name, w) => {
      const values = isLinear(name, w) ? transposed(w.values, w.shape, [1, 0]) : w.values;
      return jaxArray(jax, values, shapeOf(name, w));
    }),
    means: zeros(),
    squares: zeros(),
    powers: [number(1), number(1)],
  };
  let lastLoss = number(0);
  const run = (): void => {
    const result = step(state, jax.tree.ref(inputs as never) as Inputs);
    state = result.state;
    lastLoss.dispose();
    lastLoss = result.loss;
  };
  return {
    name: 'jax-js',
    queue: run,
    done: async () => {
      await jax.blockUntilReady([state, lastLoss] as never);
    },
    async derivatives() {
      const [loss, found] = derived(
        jax.tree.ref(state.weights as never) as Named,
        jax.tree.ref(inputs as never) as Inputs,
      );
      const gradients = new Map<string, Float32Array>();
      for (const [name, w] of work.initial) {
        const own = (await found[name]!.data()) as Float32Array;
        gradients.set(name, isLinear(name, w) ? transposed(own, shapeOf(name, w), [1, 0]) : own);
      }
      return { loss: ((await loss.data()) as Float32Array)[0]!, gradients };
    },
    async advance() {
      run();
      return ((await lastLoss.ref.data()) as Float32Array)[0]!;
    },
    release: () => jax.tree.dispose([state, inputs, lastLoss] as never),
  };
}
