// What is drawn next: single ops, and the patterns in which ops ride along with each other.
import { type Draft, isImage, Unfit, type Value } from './draft.js';
import {
  activation,
  between,
  convolution,
  deferred,
  enlarged,
  norm,
  otherView,
  sizedLike,
  small,
  upsampled,
  weightFor,
} from './layers.js';
import { rows } from './ops.js';
import { same } from './shapes.js';

/** Moves by name, with their weights. Each adds one or a few calls. */
const moves: readonly [weight: number, move: (d: Draft) => unknown][] = [
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
    8, // an activation, any op that may load it, and another that loads that
    (d) => {
      const a = deferred(d);
      const b = d.near(a, () => drawRow(d));
      if (b && d.chance(0.6)) d.near(b, () => drawRow(d));
    },
  ],
  [
    6, // an activation and two ops of any kind: gradients are added
    (d) => {
      const a = deferred(d);
      d.near(a, () => drawRow(d));
      d.near(d.chance(0.3) ? otherView(d, a) : a, () => drawRow(d));
    },
  ],
  [30, (d) => drawRow(d)],
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

/** One of so many, by weight. */
function drawn<T>(d: Draft, among: readonly T[], weightOf: (each: T) => number): T {
  let at = d.below(among.reduce((sum, each) => sum + weightOf(each), 0));
  for (const each of among) {
    at -= weightOf(each);
    if (at < 0) return each;
  }
  throw new Error('unreachable');
}

/** One of the moves. */
export const drawMove = (d: Draft): ((d: Draft) => unknown) => drawn(d, moves, ([weight]) => weight)[1];

/** An op of one of the rows. */
function drawRow(d: Draft): unknown {
  const { names, draw } = drawn(d, rows, ({ weight }) => weight);
  return draw(d, d.of(names));
}

/** Draws that op. */
export function drawOp(d: Draft, name: string): unknown {
  return rows.find(({ names }) => names.includes(name))!.draw(d, name);
}

const halfMoves: readonly ((d: Draft, x: Value) => Value)[] = [
  (d, x) => d.call('leakyRelu', x, 0.2),
  (d, x) => d.call('mul', x, 0.5),
  (d, x) => convolution(d, x, { stride: 1 }),
  (d, x) => (isImage(d.real(x)) ? upsampled(d, x) : x),
  (d, x) => otherView(d, x),
  (d, x) => d.call('concat', [x, x], -1),
  (d, x) => norm(d, x, 'normActivation'),
  (d, x) =>
    d.call('permute', x, [
      0,
      ...d
        .shape(x)
        .slice(1, -1)
        .map((_, i, { length }) => length - i),
      -1,
    ]),
  (d, x) => d.call(d.of(['maxPool', 'averagePool']), x, { window: 3, stride: 1, padding: 1 }),
  (d, x) => d.call('resize', x, { scale: 1.5 }, { mode: d.of(['linear', 'cubic']) }),
  (d, x) => {
    const c = d.shape(x).at(-1)!;
    const weight = weightFor(d, [
      c,
      ...d
        .shape(x)
        .slice(1, -1)
        .map(() => 3),
      1,
    ]);
    return d.call('conv', x, weight, d.parameter([c], 0.5), { groups: c });
  },
  (d, x) => {
    const c = d.shape(x).at(-1)!;
    return d.call('layerNorm', x, d.parameter([c], 0.5, 1), d.parameter([c], 0.5));
  },
  (d, x) => d.call(d.of(['silu', 'tanh', 'softplus']), x),
  (d, x) => d.call('where', d.call('greater', x, 0), x, 0.25),
  (d, x) => d.call('add', x, d.call('mul', x, 0.5)),
];

/** A few ops in f16 between two casts. */
export function inHalf(d: Draft): void {
  let x = d.call(
    'cast',
    d.pick((v) => isImage(v) && small(v)),
    'f16',
  );
  for (let i = 0; i < 1 + d.below(3); i++) x = d.of(halfMoves)(d, x);
  d.call('cast', x, 'f32');
}
