// Building blocks of kernels that stage in workgroup memory: folded grids, staging of x, vectors of four channels for any number of
// channels. Kernels whose threads multiply what is staged hold it as f32 for both element types, since a conversion at every load
// would cost more than the memory that f16 saves. Operands of a matrix unit have the unit's type.

import { type Float, wgsl } from '../wgsl.js';
import type { Vectors } from './epilogue.js';
import { type Activation, groupOf } from './fusion.js';
import {
  type bindings,
  type ConvGeometry,
  element,
  float,
  lines,
  product,
  range,
  type Triple,
  vector,
  type WeightOrder,
  widthOf,
} from './geometry.js';

const maxWorkgroups = 65535;
export const folded = (groups: number): Triple => {
  const x = Math.min(groups, maxWorkgroups);
  return [x, Math.ceil(groups / x), 1];
};
/** The index of a workgroup of a folded grid. */
export const block = '(group.y * groups.x + group.x)';

/** Where and how a workgroup stages a patch of x. */
interface Staging {
  readonly rows: number;
  readonly columns: number;
  readonly channels: number;
  readonly threads: number;
  /** Elements of a staged vector, and their type. */
  readonly width: 1 | 4;
  readonly type?: Float;
  readonly onLoad: Activation | undefined;
  /** Index in `staged_x` of vector `c` (of the chunk) of pixel (`row`, `column`). */
  readonly at: (c: string) => string;
}

/**
 * Fills `staged_x` with the patch whose first pixel is (`image`, `iz`, `iy0`, `ix0`) and whose first channel is `c0`, and applies
 * `onLoad`; 0 outside the image and beyond the channels. Needs `local`, the local index.
 */
export function stageInput(
  g: ConvGeometry,
  { rows, columns, channels, threads, width, type = 'f32', onLoad, at }: Staging,
): string {
  const [depth, height, imageWidth] = g.input;
  const loaded = widthOf(g.inputs);
  const vectors = Math.ceil(channels / loaded);
  const V = float(loaded);
  const group = onLoad && groupOf(onLoad);
  const coefficient = (row: number): string =>
    `coefficients[${group ? 'ofGroup + ' : ''}${(row * g.inputs) / loaded} + c]`;
  const value = onLoad
    ? `tail(${V}(x[at]), ${coefficient(0)}, ${coefficient(1)}, ${coefficient(2)})${onLoad.dropout ? ' * factors_at(u32(at))' : ''}`
    : `${V}(x[at])`;
  const converted = (value: string): string => (type === 'f32' ? value : `${vector(type, width)}(${value})`);
  const inside = [
    ...(g.kernel[0] > 1 ? [`iz >= 0 && iz < ${depth}`] : []),
    `iy >= 0 && iy < ${height} && ix >= 0 && ix < ${imageWidth}`,
    ...(g.inputs % channels ? [`c < ${g.inputs / loaded}`] : []),
  ];
  const store =
    width === loaded
      ? `staged_x[${at('lane')}] = ${converted('value')};`
      : lines(range(4).map((e) => `staged_x[${at(`(lane * 4 + ${e})`)}] = ${converted(element('value', 4, e))};`));
  const ofGroup = group ? `\n    let ofGroup = i32(${group}) * ${(4 * g.inputs) / loaded};` : '';
  return wgsl`${ofGroup}
    for (var i = local; i < ${rows * columns * vectors}; i += ${threads}) {
      let lane = i % ${vectors};
      let column = i / ${vectors} % ${columns};
      let row = i / ${vectors * columns};
      let iy = iy0 + row;
      let ix = ix0 + column;
      let c = c0 / ${loaded} + lane;
      var value = ${V}(0.0);
      if (${inside.join(' && ')}) {
        let at = (((image * ${depth} + iz) * ${height} + iy) * ${imageWidth} + ix) * ${g.inputs / loaded} + c;
        value = ${value};
      }
      ${store}
    }`;
}

/** Loads four neighbouring channels of `name` at `at`, the first being `channel`, as a vec4f; 0 beyond `channels`. */
export const loadFour = (name: string, at: string, channels: number, channel: string): string =>
  channels % 4 === 0
    ? `vec4f(${name}[(${at}) / 4])`
    : `vec4f(${range(4)
        .map(
          (e) =>
            `select(0.0, f32(${name}[min(${channel} + ${e}, ${channels - 1}) + ${at} - ${channel}]), ${channel} + ${e} < ${channels})`,
        )
        .join(', ')})`;

export const storeFour = (
  name: string,
  at: string,
  value: string,
  type: Float,
  channels: number,
  channel: string,
): string =>
  channels % 4 === 0
    ? `${name}[(${at}) / 4] = ${vector(type, 4)}(${value});`
    : range(4)
        .map(
          (e) => `if (${channel} + ${e} < ${channels}) { ${name}[${at} + ${e}] = ${type}(${element(value, 4, e)}); }`,
        )
        .join(' ');

/** Index of the weight of tap (`kz`, `ky`, `kx`), input channel `c`, output channel `o`, in orders where `o` varies fastest. */
export function weightAt(g: ConvGeometry, order: Exclude<WeightOrder, 'outputs-first'>): string {
  const [, height, width] = g.kernel;
  const tap = `((kz * ${height} + ky) * ${width} + kx)`;
  return order === 'outputs-last'
    ? `(${tap} * ${g.inputs} + c) * ${g.outputs} + o`
    : `(c * ${product(g.kernel)} + ${product(g.kernel) - 1} - ${tap}) * ${g.outputs} + o`;
}

/** The vectors of four output channels that a thread of these kernels has; `channelOf` is the first channel of each. */
export function fourChannels(
  { outputs }: ConvGeometry,
  { dtype, ragged, channelOf }: { dtype: Float; ragged: boolean; channelOf: (q: number) => string },
): Vectors & { ofChannels(name: string, row: number, q: number, group?: string): string } {
  const inside = (q: number): string => `${channelOf(q)} < ${outputs}`;
  // A row of a tensor [rows, outputs], or [groups, 4, outputs]; 0 where whole vectors lie beyond the channels.
  const ofChannels = (name: string, row: number, q: number, group?: string): string => {
    const first = `${group ? `i32(${group}) * ${4 * outputs} + ` : ''}${row ? `${row * outputs} + ` : ''}`;
    const value = loadFour(name, `${first}${channelOf(q)}`, outputs, channelOf(q));
    return ragged ? `select(vec4f(0.0), ${value}, ${inside(q)})` : value;
  };
  return {
    V: 'vec4f',
    ofChannels,
    load: (name, at, channel) => loadFour(name, at, outputs, channel),
    store: (at, value, channel) => storeFour('y', at, value, dtype, outputs, channel),
    factors: (at) =>
      outputs % 4 === 0
        ? `factors_at(u32(${at}) / 4u)`
        : `vec4f(${range(4).map((e) => `factors_at(u32(${at} + ${e}))`)})`,
    coefficient: (row, q, group) => ofChannels('zCoefficients', row, q, group),
    storePart: (row, q, value) => {
      const at = `(i32(part) * 2 + ${row}) * ${outputs} + ${channelOf(q)}`;
      const body = storeFour('partials', at, value, 'f32', outputs, channelOf(q));
      return ragged ? `    if (${inside(q)}) { ${body} }` : `    ${body}`;
    },
  };
}

/** The first bindings of all kernels that stage: x, weight, y and, if there is one, bias. */
export const operands = (
  binding: ReturnType<typeof bindings>,
  g: ConvGeometry,
  { dtype, parameters, bias, weightWidth = widthOf(g.outputs) }: Operands,
): string[] => [
  binding('read', 'x', vector(dtype, widthOf(g.inputs))),
  binding('read', 'weight', vector(parameters, weightWidth)),
  binding('read_write', 'y', vector(dtype, widthOf(g.outputs))),
  ...(bias ? [binding('read', 'bias', vector(parameters, widthOf(g.outputs)))] : []),
];
interface Operands {
  readonly dtype: Float;
  readonly parameters: Float;
  readonly bias: boolean;
  readonly weightWidth?: 1 | 4;
}

/** What a device offers a workgroup. */
export interface WorkgroupLimits {
  /** Bytes of workgroup memory; every device has 16 384. */
  readonly storage: number;
  /** Threads; every device has 256. */
  readonly threads: number;
}
