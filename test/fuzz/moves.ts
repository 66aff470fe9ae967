// What is drawn next: single ops, and the patterns in which ops ride along with each other.
import { type Draft, isImage, same, sizeOf, Unfit, type Value } from './draft.js';
import {
  activation,
  between,
  convolution,
  enlarged,
  norm,
  numbers,
  otherView,
  partner,
  sizedLike,
  small,
  upsampled,
  weightFor,
} from './layers.js';

/** Moves by name, with their weights. Each adds one or a few calls. */
const moves: readonly [weight: number, move: (d: Draft) => void][] = [
  [6, (d) => convolution(d, d.pick(isImage))],
  [5, (d) => activation(d, d.pick(isImage))],
  [5, (d) => norm(d, d.pick(isImage))],
  [
    6, // convolution, norm, activation
    (d) => norm(d, convolution(d, d.pick(isImage), { statistics: d.chance(0.7) }), 'normActivation'),
  ],
  [
    5, // residual block
    (d) => {
      const h = d.pick(isImage);
      const channels = d.shape(h).at(-1)!;
      const inner = convolution(d, h, { outputs: channels, stride: 1 });
      const tail = d.of([
        () => activation(d, inner),
        () => norm(d, inner),
        () => inner,
        () => convolution(d, activation(d, inner), { outputs: channels, stride: 1 }),
      ])();
      activation(d, d.chance(0.5) ? d.call('add', tail, h) : d.call('add', h, tail));
    },
  ],
  [
    6, // something between an activation and what loads it
    (d) => {
      const x = d.pick(isImage);
      const a = d.chance(0.5) ? activation(d, x) : norm(d, x, 'normActivation');
      const b = d.of(between)(d, a);
      const next = d.below(4);
      if (next === 0) convolution(d, b);
      else if (next === 1) activation(d, b);
      else if (next === 2) norm(d, b, 'normActivation');
      else if (isImage(d.real(b))) d.call('maxPool', b);
    },
  ],
  [
    4, // an activation and two consumers, one through a view
    (d) => {
      const x = d.pick(isImage);
      const a = d.chance(0.5) ? activation(d, x) : norm(d, x, 'normActivation');
      const [first, second] = d.chance(0.5) ? [a, otherView(d, a)] : [otherView(d, a), a];
      convolution(d, first);
      d.of([
        () => convolution(d, second),
        () => d.call('square', second),
        () => (isImage(d.real(second)) ? d.call('maxPool', second) : d.call('neg', second)),
        () => d.call('concat', [second, second], -1),
      ])();
    },
  ],
  [
    5, // concatenations in concatenations
    (d) => {
      const a = d.pick(isImage);
      const mates = Array.from({ length: 1 + d.below(2) }, () => {
        const mate = d.pick(
          (y) =>
            y.shape.length === d.shape(a).length &&
            (same(y.shape.slice(0, -1), d.shape(a).slice(0, -1)) ||
              (small(y) && same([y.shape[0]!, ...y.shape.slice(1, -1).map((n) => 2 * n)], d.shape(a).slice(0, -1)))),
        );
        return sizedLike(d, mate, a);
      });
      const inner = d.call('concat', d.chance(0.5) ? [a, ...mates] : [...mates, a], -1);
      if (d.shape(inner).at(-1)! > 24) throw new Unfit();
      if (d.chance(0.5)) {
        const outer = d.call('concat', d.chance(0.5) ? [inner, a] : [a, inner], -1);
        if (d.shape(outer).at(-1)! > 32) throw new Unfit();
        if (d.chance(0.6)) convolution(d, outer, { outputs: d.of([4, 8]) });
      } else if (d.chance(0.6)) convolution(d, inner, { outputs: d.of([4, 8]) });
    },
  ],
  [
    3,
    (d) =>
      d.call(
        'maxPool',
        d.pick((x) => isImage(x) && x.shape.slice(1, -1).every((n) => n >= 2)),
      ),
  ],
  [
    3,
    (d) =>
      enlarged(
        d,
        d.pick((x) => isImage(x) && small(x)),
      ),
  ],
  [
    3, // deferred over deferred
    (d) => {
      const x = d.pick((v) => isImage(v) && small(v));
      const order = [
        (v: Value) => upsampled(d, v),
        (v: Value) => activation(d, v),
        (v: Value) => norm(d, v, 'normActivation'),
      ];
      const first = d.of(order);
      const y = first(x);
      const z = d.of(order.filter((each) => each !== first))(y);
      if (d.chance(0.5)) convolution(d, z);
    },
  ],
  [3, (d) => otherView(d, d.pick(isImage))],
  [3, (d) => d.of(between)(d, d.pick(isImage))],
  [
    4,
    (d) => {
      const x = d.pick();
      const y = partner(d, x);
      d.call(d.of(['add', 'sub', 'mul']), ...(d.chance(0.5) ? [x, y] : [y, x]));
    },
  ],
  [
    3,
    (d) => {
      const [x, n] = [d.pick(), d.of(numbers)];
      const name = d.of(['add', 'sub', 'mul', 'div']);
      if (d.chance(0.6)) d.call(name, x, n);
      else if (name !== 'div') d.call(name, n, x);
      else d.call('div', n, d.call('add', d.call('square', x), 0.5));
    },
  ],
  [
    4,
    (d) => {
      const x = d.pick();
      const name = d.of(['neg', 'exp', 'square', 'abs', 'clamp', 'log', 'sqrt', 'div']);
      if (name === 'clamp') d.call('clamp', x, -0.75, 1.25);
      else if (name === 'exp') d.call('exp', d.call('clamp', x, -0.75, 1.25));
      else if (name === 'log' || name === 'sqrt') d.call(name, d.call('add', d.call('square', x), 0.5));
      else if (name === 'div') d.call('div', partner(d, x), d.call('add', d.call('square', x), 0.5));
      else d.call(name, x);
    },
  ],
  [
    3,
    (d) => {
      const x = d.pick((v) => v.shape.length >= 1);
      const rank = d.shape(x).length;
      const axes = d.of([[-1], [0], [rank - 1, 0], Array.from({ length: rank }, (_, i) => i), [rank >> 1]]);
      const list = [...new Set(axes.map((axis) => (axis + rank) % rank))];
      const keepDims = d.chance(0.5);
      d.call(d.of(['sum', 'mean', 'max']), x, list, ...(keepDims ? [{ keepDims }] : []));
    },
  ],
  [
    2,
    (d) => {
      const x = d.pick((v) => v.shape.length >= 2);
      const axis = d.below(d.shape(x).length);
      const n = d.shape(x)[axis]!;
      if (n < 2) throw new Unfit();
      const first = d.below(n - 1);
      d.call('slice', x, axis, first, 1 + d.below(n - first));
    },
  ],
  [
    2,
    (d) => {
      const x = d.pick(isImage);
      const axis = d.below(d.shape(x).length - 1);
      const y = d.pick(
        (v) => v.shape.length === d.shape(x).length && same(v.shape.with(axis, 0), d.shape(x).with(axis, 0)),
      );
      d.call('concat', [x, y], axis);
    },
  ],
  [
    2,
    (d) =>
      d.call(
        d.of(['softmax', 'logSoftmax']),
        d.pick((x) => x.shape.length >= 1 && x.shape.at(-1)! > 1),
      ),
  ],
  [
    2,
    (d) => {
      const x = d.pick((v) => v.shape.length >= 2);
      const inner = d.shape(x).at(-1)!;
      if (d.chance(0.7)) d.call('matmul', x, weightFor(d, [d.of([4, 8, 3]), inner].reverse()));
      else
        d.call(
          'matmul',
          x,
          d.pick(
            (v) =>
              v.shape.length === d.shape(x).length &&
              same(v.shape.slice(0, -2), d.shape(x).slice(0, -2)) &&
              v.shape.at(-2) === inner,
          ),
        );
    },
  ],
  [
    1,
    (d) => {
      const x = d.pick(isImage);
      const shape = d.shape(x);
      d.call(
        'reshape',
        x,
        d.of([[sizeOf(shape)], [sizeOf(shape.slice(0, -1)), shape.at(-1)!], [shape[0]!, sizeOf(shape.slice(1))]]),
      );
    },
  ],
  [
    1,
    (d) => {
      const x = d.pick((v) => v.shape.length >= 2 && v.shape.at(-1)! >= 3 && v.shape.at(-1)! <= 8);
      const labels = d.leaf('labels', d.shape(x).slice(0, -1), 0, d.shape(x).at(-1)!);
      d.call(d.of(['crossEntropy', 'diceLoss']), x, labels);
    },
  ],
  [
    1, // a teacher's part
    (d) =>
      d.untracked(() => {
        const x = d.pick(isImage);
        const y = norm(d, convolution(d, x), 'normActivation');
        d.call('square', y);
      }),
  ],
];

const totalWeight = moves.reduce((sum, [weight]) => sum + weight, 0);

/** One of the moves, by weight. */
export function drawMove(d: Draft): (d: Draft) => void {
  let at = d.below(totalWeight);
  for (const [weight, move] of moves) {
    at -= weight;
    if (at < 0) return move;
  }
  throw new Error('unreachable');
}

const halfMoves: readonly ((d: Draft, x: Value) => Value)[] = [
  (d, x) => d.call('leakyRelu', x, 0.2),
  (d, x) => d.call('mul', x, 0.5),
  (d, x) => convolution(d, x, { stride: 1 }),
  (d, x) => (isImage(d.real(x)) ? upsampled(d, x) : x),
  (d, x) => otherView(d, x),
  (d, x) => d.call('concat', [x, x], -1),
  (d, x) => norm(d, x, 'normActivation'),
];

/** A few ops in f16 between two casts. */
export function inHalf(d: Draft): void {
  let x = d.call(
    'cast',
    d.pick((v) => isImage(v) && small(v)),
    'f16',
  );
  for (let i = 0; i < 1 + d.below(2); i++) x = d.of(halfMoves)(d, x);
  d.call('cast', x, 'f32');
}
