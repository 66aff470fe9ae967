// Upsampling by a whole factor f along each axis, over [N, H, W, C] or [N, D, H, W, C].
//   linear   aligned corners: output i of an axis of n reads input position i·(n − 1)/(f·n − 1); y = Σ over the 2^rank neighbours of
//            the product of 1 − distance. dx gathers, in order, the outputs whose position lies within one input of it
//   nearest  output i reads input ⌊i/f⌋; dx = Σ over its f^rank outputs, in order
// One thread per quad of channels of an output (forward) or input (backward) pixel. Positions are ratios of integers, so both passes
// find exactly the same row. An axis of factor 1 stays as it is, for instance the depth of a 2-D image.
import { coordinates, coordinatesOf, type ImageSizes, pixelIndex, product, vectorsOf } from './image-sizes.js';
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

/** `output` is a whole multiple of `input` along each axis. */
export interface UpsampleSizes extends ImageSizes {
  readonly dtype: Float;
  readonly mode: 'linear' | 'nearest';
}

/** A slot of a wider tensor: the channels of a pixel there, and the offset of this tensor's. */
export interface PixelSlot {
  readonly row: number;
  readonly offset: number;
}

const slotIndex = ({ channels }: UpsampleSizes, pixel: string, slot: PixelSlot | undefined): string => {
  const width = channels % 4 === 0 ? 4 : 1;
  if (!slot) return `${pixel} * ${u32(channels / width)} + quad`;
  return `${pixel} * ${u32(slot.row / width)} + ${u32(slot.offset / width)} + quad`;
};

/** One axis: its coordinate's name, inputs and outputs. */
interface Axis {
  readonly name: (typeof coordinates)[number];
  readonly inputs: number;
  readonly outputs: number;
}

const axesOf = ({ input, output }: UpsampleSizes): Axis[] =>
  coordinates.map((name, axis) => ({ name, inputs: input[axis]!, outputs: output[axis]! }));

const isScaled = ({ inputs, outputs }: Axis): boolean => inputs !== outputs;

/** The two inputs between which an output of an axis lies, and its distance from the first. */
const between = ({ name, inputs, outputs }: Axis): string => wgsl`
  let ${name}_position = ${name} * ${u32(inputs - 1)};
  let ${name}_0 = ${name}_position / ${u32(outputs - 1)};
  let ${name}_1 = min(${name}_0 + 1u, ${u32(inputs - 1)});
  let ${name}_apart = f32(${name}_position % ${u32(outputs - 1)}) / f32(${u32(outputs - 1)});`;

/** The value interpolated along all `axes`; `at` are the coordinates that are fixed already. */
function interpolated(axes: readonly Axis[], at: readonly string[]): string {
  const [axis, ...rest] = axes;
  if (!axis) return `pixel(item, ${at.join(', ')}, quad)`;
  if (!isScaled(axis)) return interpolated(rest, [...at, axis.name]);
  const [low, high] = [0, 1].map((side) => interpolated(rest, [...at, `${axis.name}_${side}`]));
  return `mix(${low}, ${high}, ${axis.name}_apart)`;
}

/** y may be a slot of a wider tensor; where the channels are a multiple of 4, so are its row and offset. */
export function upsampleForward(sizes: UpsampleSizes, slot?: PixelSlot): string {
  const { V, S, quads } = vectorsOf(sizes);
  const axes = axesOf(sizes);
  const nearest = axes.map((axis) =>
    isScaled(axis) ? `${axis.name} / ${u32(axis.outputs / axis.inputs)}` : axis.name,
  );
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read_write> y: array<${S}>;

fn pixel(item: u32, plane: u32, row: u32, column: u32, quad: u32) -> ${V} {
  return ${V}(x[${pixelIndex(sizes.input, 'plane', 'row', 'column')} * ${u32(quads)} + quad]);
}

@compute @workgroup_size(64)
fn upsample(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(sizes.batch * product(sizes.output) * quads)}) { return; }
  let quad = i % ${u32(quads)};
  ${coordinatesOf(`(i / ${u32(quads)})`, sizes.output)}
#if ${sizes.mode === 'linear'}
${axes.filter(isScaled).map(between).join('')}
  let value = ${interpolated(axes, [])};
#else
  let value = pixel(item, ${nearest.join(', ')}, quad);
#endif
  y[${slotIndex(sizes, `(i / ${u32(quads)})`, slot)}] = ${S}(value);
}`;
}

/** dy may be a slot of a wider tensor. */
export function upsampleBackward(sizes: UpsampleSizes, slot?: PixelSlot): string {
  const { V, S, quads } = vectorsOf(sizes);
  const { mode, input, output } = sizes;
  const scaled = axesOf(sizes).filter(isScaled);
  const linear = mode === 'linear';
  const factor = ({ inputs, outputs }: Axis): string => u32(outputs / inputs);
  const bounds = (axis: Axis): string =>
    linear
      ? wgsl`
  let ${axis.name}_first = first_of(${axis.name}, ${u32(axis.inputs)}, ${u32(axis.outputs)});
  let ${axis.name}_end = end_of(${axis.name}, ${u32(axis.inputs)}, ${u32(axis.outputs)});`
      : wgsl`
  let ${axis.name}_first = ${axis.name} * ${factor(axis)};
  let ${axis.name}_end = ${axis.name}_first + ${factor(axis)};`;
  const at = (name: string): string => (scaled.some((axis) => axis.name === name) ? `${name}_out` : name);
  const source = slotIndex(sizes, pixelIndex(output, at('plane'), at('row'), at('column')), slot);
  const weights = linear ? scaled.map(({ name }) => `${name}_weight * `).join('') : '';
  const loops = scaled.reduceRight(
    (body, { name, inputs, outputs }) => wgsl`
    for (var ${name}_out = ${name}_first; ${name}_out < ${name}_end; ${name}_out++) {
#if ${linear}
    let ${name}_weight = weight(${name}_out, ${name}, ${u32(inputs)}, ${u32(outputs)});
#endif
${body}
    }`,
    `    sum += ${weights}${V}(dy[${source}]);`,
  );
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> dy: array<${S}>;
@group(0) @binding(1) var<storage, read_write> dx: array<${S}>;
#if ${linear}

// Weight of input position \`at\` in output position \`out\` of an axis: 1 − |out·(size − 1)/(outs − 1) − at|.
fn weight(out: u32, at: u32, size: u32, outs: u32) -> f32 {
  let position = out * (size - 1u);
  let here = at * (outs - 1u);
  let apart = select(here - position, position - here, position > here);
  return max(0.0, 1.0 - f32(apart) / f32(outs - 1u));
}
// First output whose position is greater than at − 1, and first whose position is at least at + 1.
fn first_of(at: u32, size: u32, outs: u32) -> u32 {
  if (at == 0u || size == 1u) { return 0u; }
  return ((at - 1u) * (outs - 1u)) / (size - 1u) + 1u;
}
fn end_of(at: u32, size: u32, outs: u32) -> u32 {
  if (at + 1u >= size) { return outs; }
  return ((at + 1u) * (outs - 1u) + size - 2u) / (size - 1u);
}
#endif

@compute @workgroup_size(64)
fn upsample_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(sizes.batch * product(input) * quads)}) { return; }
  let quad = i % ${u32(quads)};
  ${coordinatesOf(`(i / ${u32(quads)})`, input)}
  var sum = ${V}(0.0);
${scaled.map(bounds).join('')}
${loops}
  dx[i] = ${S}(sum);
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    (['linear', 'nearest'] as const).flatMap((mode) =>
      [3, 8].flatMap((channels) => {
        const flat: UpsampleSizes = { ...{ dtype, mode, batch: 2, channels }, input: [1, 5, 1], output: [1, 10, 2] };
        const solid: UpsampleSizes = { ...flat, input: [2, 5, 1], output: [6, 15, 3] };
        const slot = { row: 4 * channels, offset: channels };
        return [flat, solid].flatMap((sizes) => [
          upsampleForward(sizes),
          upsampleBackward(sizes),
          upsampleForward(sizes, slot),
          upsampleBackward(sizes, slot),
        ]);
      }),
    ),
  );
