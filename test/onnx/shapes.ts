// Rows of ONNX's table: shapes, indices and constants. What ONNX computes of shapes and constants is JavaScript here.
import { broadcastShapes, sizeOf } from '../../engine/custom.js';
import type { Tensor } from '../../engine/index.js';
import { dtypeOf, type Node, type Rows, w } from './node.js';
import { notOffered, typeNamed, type Values } from './vectors.js';

const range = (count: number, of = (i: number): number => i): number[] =>
  Array.from({ length: count }, (_, i) => of(i));

/** x [N, C, H, W] with blocks of pixels as channels, or the other way round, through one `permute`. */
function blocks(n: Node, apart: readonly number[], order: readonly number[], shape: readonly number[]): Tensor {
  return w.reshape(w.permute(w.reshape(n.x(), apart), order), shape);
}

/** Slices along some axes, one after another. */
function slices(n: Node): Tensor {
  const [firsts = [], ends = [], axes, steps] = range(4).map((i) => n.given(i + 1));
  let y = n.x();
  firsts.forEach((first, i) => {
    const axis = ((axes?.[i] ?? i) + y.shape.length) % y.shape.length;
    const [size, step] = [n.x().shape[axis]!, steps?.[i] ?? 1];
    const within = (at: number, low: number, high: number): number =>
      Math.min(high, Math.max(low, at < 0 ? at + size : at));
    const [from, to] = [first, ends[i]!].map((at) => (step < 0 ? within(at, -1, size - 1) : within(at, 0, size)));
    const count = Math.ceil((to! - from!) / step);
    if (count <= 0) notOffered('tensors without elements');
    if (count < size || step !== 1) y = w.slice(y, axis, from!, count, { step });
  });
  return y;
}

/** Indices of an axis of `size`, those that count from the end made to count from the beginning. */
const fromBeginning = (indices: Tensor, size: number, negative: boolean): Tensor =>
  negative ? w.remainder(w.add(indices, size), size) : indices;
const hasNegative = (indices: Values | undefined): boolean => indices!.values.some((index) => index < 0);

/** The places in x, flat, of elements whose index along `axis` is given, and the others are those of `indices` itself. */
function placesAlong(n: Node, axis: number): Tensor {
  const { shape } = n.inputs[0]!;
  const strides = shape.map((_, i) => sizeOf(shape.slice(i + 1)));
  const { shape: own } = n.inputs[1]!;
  const steps = own.map((_, i) => sizeOf(own.slice(i + 1)));
  const base = range(sizeOf(own), (at) =>
    own.reduce((sum, size, i) => sum + (i === axis ? 0 : (Math.floor(at / steps[i]!) % size) * strides[i]!), 0),
  );
  const indices = fromBeginning(n.x(1), shape[axis]!, hasNegative(n.inputs[1]));
  return w.add(w.mul(indices, strides[axis]!), n.constant(base, own, 'i32'));
}

/** x's elements, or rows, at the indices [..., k] of its first axes, those of a batch in front. */
function gatherND(n: Node): Tensor {
  const [{ shape }, { shape: own }] = [n.inputs[0]!, n.inputs[1]!];
  const batch = n.number('batch_dims', 0);
  const axes = batch + own.at(-1)!;
  const strides = range(axes, (i) => sizeOf(shape.slice(i + 1, axes)));
  let rows = w.sum(w.mul(n.x(1), n.constant(strides.slice(batch), [axes - batch], 'i32')), -1);
  if (batch) {
    const count = sizeOf(shape.slice(0, batch));
    const begins = range(count, (i) => i * sizeOf(shape.slice(batch, axes)));
    rows = w.add(rows, n.constant(begins, [...shape.slice(0, batch), ...Array(own.length - 1 - batch).fill(1)], 'i32'));
  }
  return w.gather(w.reshape(n.x(0), [-1, ...shape.slice(axes)]), rows);
}

function oneHot(n: Node): Tensor {
  const { type, values } = n.inputs[2]!;
  const [off, on] = values.map((value) => n.constant([value], [], dtypeOf[type]!));
  const { length } = n.inputs[0]!.shape;
  const axis = (n.number('axis', -1) + length + 1) % (length + 1);
  const [classes] = n.given(1) as [number];
  const whole = n.inputs[0]!.type === 'float' ? w.cast(n.x(), 'i32') : n.x();
  const y = w.oneHot(fromBeginning(whole, classes, hasNegative(n.inputs[0])), classes, 'u8');
  const order = [...range(axis), length, ...range(length - axis, (i) => axis + i)];
  return w.where(axis === length ? y : w.permute(y, order), on!, off!);
}

/** A tensor that is one value. */
function filled(n: Node): Tensor {
  const { type, values } = n.value('value') ?? { type: 'float', values: [0] };
  if (n.given(0)!.includes(0)) notOffered('tensors without elements');
  return w.tensor(n.gpu, values[0]!, n.given(0)!, { dtype: dtypeOf[type]! });
}

/** The axes that a node names in its second input or its attribute, of a tensor with `rank` axes; undefined if none. */
const axesOf = (n: Node, rank: number): number[] | undefined =>
  namedAxes(n)?.map((axis) => (axis < 0 ? axis + rank : axis));
const namedAxes = (n: Node): readonly number[] | undefined => n.given(1) ?? n.numbers('axes');

function unsqueezed(n: Node): number[] {
  const sizes = [...n.inputs[0]!.shape];
  const rank = sizes.length + namedAxes(n)!.length;
  const axes = axesOf(n, rank)!;
  return range(rank, (i) => (axes.includes(i) ? 1 : sizes.shift()!));
}

function squeezed(n: Node): number[] {
  const { shape } = n.inputs[0]!;
  const axes = axesOf(n, shape.length);
  return shape.filter((size, i) => (axes ? !axes.includes(i) : size !== 1));
}

export const shapes: Rows = {
  Concat: [
    '`concat(xs, axis)`',
    (n) =>
      w.concat(
        n.inputs.map((_, i) => n.x(i)),
        n.number('axis', 0),
      ),
  ],
  Constant: [
    '`tensor(gpu, values, shape)`',
    (n) => {
      const { values, shape, type } = n.value('value')!;
      return w.tensor(n.gpu, [...values], shape, { dtype: dtypeOf[type]! });
    },
  ],
  ConstantOfShape: ['`tensor(gpu, value, shape)`', filled],
  DepthToSpace: [
    '`reshape(permute(reshape(x, …), …), …)`',
    (n) => {
      const [[N, C, H, W], b] = [n.inputs[0]!.shape as [number, number, number, number], n.number('blocksize', 1)];
      const c = C / b / b;
      const shape = [N, c, H * b, W * b];
      return n.text('mode', 'DCR') === 'CRD'
        ? blocks(n, [N, c, b, b, H, W], [0, 1, 4, 2, 5, 3], shape)
        : blocks(n, [N, b, b, c, H, W], [0, 3, 4, 1, 5, 2], shape);
    },
  ],
  Expand: ['`broadcastTo(x, shape)`', (n) => w.broadcastTo(n.x(), broadcastShapes('Expand', n.x().shape, n.given(1)!))],
  EyeLike: [
    '`oneHot(tensor(gpu, indices), classes)`',
    (n) => {
      const [
        {
          shape: [rows = 0, columns = 0],
          type,
        },
        shift,
      ] = [n.inputs[0]!, n.number('k', 0)];
      const code = n.number('dtype', 0);
      const dtype = dtypeOf[code ? typeNamed(code) : type]!;
      return w.oneHot(
        w.tensor(
          n.gpu,
          range(rows, (i) => i + shift),
          [rows],
          { dtype: 'i32' },
        ),
        columns,
        dtype,
      );
    },
  ],
  Flatten: [
    '`reshape(x, [rows, -1])`',
    (n) => {
      const axis = n.number('axis', 1);
      return w.reshape(n.x(), [sizeOf(n.x().shape.slice(0, axis)), -1]);
    },
  ],
  Gather: [
    '`gather(x, indices, axis)`; indices from the end: `remainder(add(indices, size), size)`',
    (n) => {
      const axis = n.axis(0);
      const indices = fromBeginning(n.x(1), n.x().shape[axis]!, hasNegative(n.inputs[1]));
      return w.gather(n.x(0), indices, axis);
    },
  ],
  GatherElements: [
    '`gather(reshape(x, [-1]), add(mul(indices, stride), places))`',
    (n) => w.gather(w.reshape(n.x(0), [-1]), placesAlong(n, n.axis(0))),
  ],
  GatherND: ['`gather(reshape(x, [-1, …]), sum(mul(indices, strides), -1))`', gatherND],
  OneHot: ['`where(oneHot(indices, classes), on, off)`; along another axis with `permute`', oneHot],
  Pad: [
    '`pad(x, widths, { mode, value })`',
    (n) => {
      const pads = n.given(1)!;
      const widths = range(pads.length / 2, (i) => i).map((i) => [pads[i]!, pads[i + pads.length / 2]!] as const);
      const mode = n.text('mode', 'constant');
      if (mode === 'edge' || mode === 'reflect') return w.pad(n.x(), widths, { mode });
      return w.pad(n.x(), widths, { value: n.given(2)?.[0] ?? 0 });
    },
  ],
  Range: [
    '`tensor(gpu, numbers)`',
    (n) => {
      const [start, limit, step] = range(3).map((i) => n.given(i)![0]!) as [number, number, number];
      const count = Math.ceil((limit - start) / step);
      const dtype = dtypeOf[n.inputs[0]!.type]!;
      return w.tensor(
        n.gpu,
        range(count, (i) => start + i * step),
        [count],
        { dtype },
      );
    },
  ],
  Reshape: [
    '`reshape(x, shape)`',
    (n) => {
      if (n.outputs[0]!.shape.includes(0)) notOffered('tensors without elements');
      const sizes = n.given(1)!;
      const kept = n.number('allowzero', 0) ? sizes : sizes.map((size, i) => (size === 0 ? n.x().shape[i]! : size));
      return w.reshape(n.x(), kept);
    },
  ],
  ReverseSequence: '`flip` turns a whole axis: no lengths for each item',
  Scatter: '`scatterAdd` adds: nothing overwrites elements',
  ScatterElements: [
    'with `add`: `scatterAdd` of x and updates as `reshape(…, [-1])`, at the places of `GatherElements`',
    (n) => {
      if (n.text('reduction', 'none') !== 'add') notOffered('overwriting elements');
      const [places, updates] = [placesAlong(n, n.axis(0)), n.x(2)].map((t) => w.reshape(t, [-1]));
      return w.reshape(w.scatterAdd(w.reshape(n.x(0), [-1]), places!, updates!), n.x(0).shape);
    },
  ],
  ScatterND: [
    'with `add` along the first axis: `scatterAdd(x, reshape(indices, [-1]), updates)`',
    (n) => {
      if (n.text('reduction', 'none') !== 'add') notOffered('overwriting or multiplying elements');
      if (n.inputs[1]!.shape.at(-1) !== 1) notOffered('indices of several axes');
      return w.scatterAdd(n.x(0), w.reshape(n.x(1), [-1]), n.x(2));
    },
  ],
  Shape: [
    '`x.shape`',
    (n) => {
      const { shape } = n.inputs[0]!;
      return shape.slice(n.number('start', 0), n.number('end', shape.length));
    },
  ],
  Size: ['`x.size`', (n) => sizeOf(n.inputs[0]!.shape)],
  Slice: ['`slice(x, axis, first, count, { step })` for each axis', slices],
  SpaceToDepth: [
    '`reshape(permute(reshape(x, …), …), …)`',
    (n) => {
      const [[N, C, H, W], b] = [n.inputs[0]!.shape as [number, number, number, number], n.number('blocksize', 1)];
      return blocks(n, [N, C, H / b, b, W / b, b], [0, 3, 5, 1, 2, 4], [N, C * b * b, H / b, W / b]);
    },
  ],
  Split: [
    '`split(x, parts, axis)`',
    (n) => {
      const parts = n.given(1) ?? n.numbers('split') ?? n.outputs.length;
      if (typeof parts !== 'number' && parts.includes(0)) notOffered('tensors without elements');
      return w.split(n.x(), parts, n.number('axis', 0));
    },
  ],
  Squeeze: ['`reshape(x, shape)`', (n) => w.reshape(n.x(), squeezed(n))],
  Tile: ['`tile(x, repeats)`', (n) => w.tile(n.x(), n.given(1)!)],
  Transpose: [
    '`permute(x, axes)`',
    (n) => w.permute(n.x(), n.numbers('perm') ?? n.x().shape.map((_, i) => n.x().shape.length - 1 - i)),
  ],
  Trilu: [
    '`where(greaterEqual(columns, rows), x, 0)` of two index tensors',
    (n) => {
      const x = n.x();
      const [rows, columns] = x.shape.slice(-2) as [number, number];
      const shift = n.given(1)?.[0] ?? 0;
      const i = n.constant(
        range(rows, (at) => at + shift),
        [rows, 1],
        'i32',
      );
      const j = n.constant(range(columns), [columns], 'i32');
      return w.where(n.number('upper', 1) ? w.greaterEqual(j, i) : w.lessEqual(j, i), x, 0);
    },
  ],
  Unsqueeze: ['`reshape(x, shape)`', (n) => w.reshape(n.x(), unsqueezed(n))],
};
