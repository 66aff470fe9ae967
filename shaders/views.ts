// Views of the items of a batch, from one table with a row for each item. Let s be the item that a pixel p of item i comes from (i, or
// its partner where p lies in its box), and t the turn of s:
//   mixed    y_i(p) = x_s(t(p))                        dx_j(q) = Σ over items i that show x_j(q), in order, of dy_i(t⁻¹(q))
//   strong   v = blur(x_s)(t(p));  v ← sign(v)·|v|^γ;  v ← m + contrast · (v − m) + brightness;  y_i(p) = v + noise · N(0, 1)
// where m is the mean of x_s and all numbers are those of s; blur is Gaussian in the plane, 7 × 7, its weights normalised inside the image.
// Mixed: one thread per quad of channels of a pixel, or per word of four labels. Strong: one thread per four elements, as gaussian-noise.
import { coordinatesOf, pixelIndex, product, type Triple, vectorsOf } from './image-sizes.js';
import { philox } from './philox.js';
import { planeTurns, turnBits } from './plane-turns.js';
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

/** The columns of the table, in order. */
export const viewColumns = [
  ...(['gamma', 'contrast', 'brightness', 'blur', 'noise', 'turn', 'partner'] as const),
  ...(['firstPlane', 'firstRow', 'firstColumn', 'endPlane', 'endRow', 'endColumn'] as const),
] as const;

/** Sizes of a batch of images. */
export interface ViewSizes {
  readonly dtype: Float;
  readonly batch: number;
  readonly size: Triple;
  readonly channels: number;
}

/** Expression: a number in an item's row. */
const drawn = (item: string, column: (typeof viewColumns)[number]): string =>
  `draws[${item} * ${u32(viewColumns.length)} + ${u32(viewColumns.indexOf(column))}]`;

/** Expression: whether a position lies in the box of an item. */
const inBox = (item: string): string =>
  (['Plane', 'Row', 'Column'] as const)
    .map((axis) => {
      const at = axis.toLowerCase();
      return `${at} >= u32(${drawn(item, `first${axis}`)}) && ${at} < u32(${drawn(item, `end${axis}`)})`;
    })
    .join(' && ');

/** Expression: the item that `item` shows in its box. */
const partnerOf = (item: string): string => `u32(i32(${item}) + i32(${drawn(item, 'partner')}))`;

/** Functions `turn_of(item)` and those of planeTurns. */
const turns = (size: Triple): string => wgsl`
fn turn_of(item: u32) -> u32 { return u32(${drawn('item', 'turn')}) & ${u32(turnBits(size))}; }${planeTurns(size)}`;

/** Function `source_of(pixel)`: the item that an output pixel shows, and the pixel's index in the whole batch. */
const sources = (size: Triple): string => wgsl`${turns(size)}
fn source_of(pixel: u32) -> vec2u {
  ${coordinatesOf('pixel', size).replace('let item =', 'var item =')}
  if (${inBox('item')}) { item = ${partnerOf('item')}; }
  let at = turned(turn_of(item), vec2u(row, column));
  return vec2u(item, ${pixelIndex(size, 'plane', 'at.x', 'at.y')});
}`;

/** y of images x. */
export function mixedForward(sizes: ViewSizes): string {
  const { S, quads } = vectorsOf(sizes);
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> draws: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<${S}>;
@group(0) @binding(2) var<storage, read_write> y: array<${S}>;
${sources(sizes.size)}

@compute @workgroup_size(64)
fn mix_items(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(sizes.batch * product(sizes.size) * quads)}) { return; }
  y[i] = x[source_of(i / ${u32(quads)}).y * ${u32(quads)} + i % ${u32(quads)}];
}`;
}

/** dx of images. A pixel has one place in each view that may show it. */
export function mixedBackward(sizes: ViewSizes): string {
  const { V, S, quads } = vectorsOf(sizes);
  const { batch, size } = sizes;
  const place = pixelIndex(size, 'plane', 'row', 'column').replace('item', 'other');
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> draws: array<f32>;
@group(0) @binding(1) var<storage, read> dy: array<${S}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${S}>;
${turns(size)}

@compute @workgroup_size(64)
fn mix_items_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(batch * product(size) * quads)}) { return; }
  ${coordinatesOf(`(i / ${u32(quads)})`, size)
    .replace('let column', 'var column')
    .replace('let row', 'var row')}
  let at = turned_back(turn_of(item), vec2u(row, column));
  row = at.x;
  column = at.y;
  var sum = ${V}(0.0);
  for (var other = 0u; other < ${u32(batch)}; other++) {
    var shown = other;
    if (${inBox('other')}) { shown = ${partnerOf('other')}; }
    if (shown == item) { sum += ${V}(dy[${place} * ${u32(quads)} + i % ${u32(quads)}]); }
  }
  dx[i] = ${S}(sum);
}`;
}

/** y of labels x, one byte per pixel. */
export const mixedLabels = (batch: number, size: Triple): string => wgsl`
@group(0) @binding(0) var<storage, read> draws: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
${sources(size)}
fn label(pixel: u32) -> u32 {
  if (pixel >= ${u32(batch * product(size))}) { return 0u; }
  let source = source_of(pixel).y;
  return (x[source / 4u] >> (8u * (source % 4u))) & 0xffu;
}

@compute @workgroup_size(64)
fn mix_labels(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= arrayLength(&y)) { return; }
  y[i] = label(4u * i) | (label(4u * i + 1u) << 8u) | (label(4u * i + 2u) << 16u) | (label(4u * i + 3u) << 24u);
}`;

/** Strong views of images x; `means` holds the mean of each item. Pixels that a row does not change are copied bit for bit. */
export function strongViewsShader({ dtype, batch, size, channels }: ViewSizes): string {
  const [, height, width] = size;
  const elements = batch * product(size) * channels;
  return wgsl`${enable(dtype)}
${philox}
@group(0) @binding(0) var<storage, read> random: array<u32>; // seed, step
@group(0) @binding(1) var<storage, read> stream: array<u32>;
@group(0) @binding(2) var<storage, read> draws: array<f32>;
@group(0) @binding(3) var<storage, read> x: array<${dtype}>;
@group(0) @binding(4) var<storage, read> means: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<${dtype}>;
${sources(size)}

fn blurred(pixel: u32, channel: u32, deviation: f32) -> f32 {
  let row = i32(pixel / ${u32(width)} % ${u32(height)});
  let column = i32(pixel % ${u32(width)});
  let exponent = -0.5 / (deviation * deviation);
  var sum = 0.0;
  var weights = 0.0;
  for (var down = -3; down <= 3; down++) {
    if (row + down < 0 || row + down >= ${height}) { continue; }
    for (var right = -3; right <= 3; right++) {
      if (column + right < 0 || column + right >= ${width}) { continue; }
      let weight = exp(exponent * f32(down * down + right * right));
      let here = u32(i32(pixel) + down * ${width} + right);
      sum += weight * f32(x[here * ${u32(channels)} + channel]);
      weights += weight;
    }
  }
  return sum / weights;
}

// An element of the view without its noise, and the deviation of that.
fn view(element: u32) -> vec2f {
  let channel = element % ${u32(channels)};
  let source = source_of(element / ${u32(channels)});
  let item = source.x;
  let blur = ${drawn('item', 'blur')};
  let gamma = ${drawn('item', 'gamma')};
  let contrast = ${drawn('item', 'contrast')};
  let brightness = ${drawn('item', 'brightness')};
  var v = f32(x[source.y * ${u32(channels)} + channel]);
  if (blur > 0.0) { v = blurred(source.y, channel, blur); }
  if (gamma != 1.0 && v != 0.0) { v = sign(v) * pow(abs(v), gamma); }
  if (contrast != 1.0) { v = means[item] + contrast * (v - means[item]); }
  if (brightness != 0.0) { v += brightness; }
  return vec2f(v, ${drawn('item', 'noise')});
}

@compute @workgroup_size(64)
fn strong_views(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let block = ${flatIndex(64)};
  let first = 4u * block;
  if (first >= ${u32(elements)}) { return; }
  let bits = philox(vec4u(block, random[1], 0u, 0u), vec2u(random[0], stream[0]));
  let noise = vec4f(normal2(bits.xy), normal2(bits.zw));
  for (var k = 0u; k < 4u; k++) {
    if (first + k >= ${u32(elements)}) { return; }
    let v = view(first + k);
    y[first + k] = ${dtype}(select(v.x, v.x + v.y * noise[k], v.y > 0.0));
  }
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => {
  const shapes: Triple[] = [
    [1, 6, 6],
    [3, 4, 6],
  ];
  const images = (['f32', 'f16'] as const).flatMap((dtype) =>
    shapes.flatMap((size) => [1, 8].map((channels): ViewSizes => ({ dtype, batch: 3, size, channels }))),
  );
  return [
    ...images.flatMap((sizes) => [mixedForward(sizes), mixedBackward(sizes), strongViewsShader(sizes)]),
    ...shapes.map((size) => mixedLabels(3, size)),
  ];
};
