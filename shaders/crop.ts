// Crops of volumes that lie one after another in x, and crops added back. Crop b is a row of eight integers in `at`: where its volume begins
// in x, the volume's sides (depth, height, width), the place of the crop's first corner in it, and a turn t_b. With v_b(p) the voxel of the
// volume that place p of the crop shows, v_b(p) = corner + t_b(p):
//   crop       y_b(p) = x(v_b(p)), 0 outside the volume
//   add back   sums(v) ← sums(v) + Σ over crops b that show v, in order, of w(v − corner_b) · y_b(v_b⁻¹(v)),   w = w_z · w_y · w_x
// Turns 0 to 7 are those of plane-turns.ts, 8 more turn the order of planes round. Crop: one thread per element, or per word of four u8.
// Add back: one thread per element of the crops; the first crop of the batch that shows a voxel adds what all of them say, so that no sum
// has two writers and every sum one order.
import { coordinatesOf, product, type Triple } from './image-sizes.js';
import { planeTurns, turnBits } from './plane-turns.js';
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

/** Integers of a row of `at`, in order. */
export const cropColumns = ['start', 'depth', 'height', 'width', 'plane', 'row', 'column', 'turn'] as const;

/** Sizes of a batch of crops. */
export interface CropSizes {
  readonly size: Triple;
  readonly channels: number;
}

const columns = cropColumns.length;

/** Functions `corner_of(crop)`, `sides_of(crop)`, `turn_of(crop)`, and `seen(turn, place)`, the place in the volume from the corner on. */
const places = (size: Triple): string => wgsl`${planeTurns(size)}
fn triple_of(crop: u32, column: u32) -> vec3i {
  let i = crop * ${u32(columns)} + column;
  return vec3i(at[i], at[i + 1u], at[i + 2u]);
}
fn sides_of(crop: u32) -> vec3i { return triple_of(crop, ${u32(cropColumns.indexOf('depth'))}); }
fn corner_of(crop: u32) -> vec3i { return triple_of(crop, ${u32(cropColumns.indexOf('plane'))}); }
fn turn_of(crop: u32) -> u32 { return u32(at[crop * ${u32(columns)} + ${u32(cropColumns.indexOf('turn'))}]); }
fn plane_of(turn: u32, plane: u32) -> u32 { return select(plane, ${u32(size[0] - 1)} - plane, (turn & 8u) != 0u); }
fn seen(turn: u32, place: vec3u) -> vec3i {
  let inside = turned(turn & ${u32(turnBits(size))}, place.yz);
  return vec3i(vec3u(plane_of(turn, place.x), inside));
}
fn is_within(place: vec3i, sides: vec3i) -> bool { return all(place >= vec3i(0)) && all(place < sides); }
// Index of a voxel of a crop's volume among all voxels of x.
fn voxel_of(crop: u32, sides: vec3i, place: vec3i) -> u32 {
  return u32(at[crop * ${u32(columns)}] + (place.x * sides.y + place.y) * sides.z + place.z);
}`;

/** y = crops of x; u8 becomes floats where `to` is a float. */
export function cropShader(from: Float | 'u8', to: Float | 'u8', { size, channels }: CropSizes): string {
  const read =
    from === 'u8'
      ? wgsl`f32((x[element / 4u] >> (8u * (element % 4u))) & 255u)`
      : wgsl`${from === to ? '' : 'f32'}(x[element])`;
  const count = from === 'u8' ? '4u * arrayLength(&x)' : 'arrayLength(&x)';
  const V = from === to && from !== 'u8' ? from : 'f32';
  return wgsl`${enable(from === 'f16' || to === 'f16' ? 'f16' : 'f32')}
@group(0) @binding(0) var<storage, read> x: array<${from === 'u8' ? 'u32' : from}>;
@group(0) @binding(1) var<storage, read> at: array<i32>;
@group(0) @binding(2) var<storage, read_write> y: array<${to === 'u8' ? 'u32' : to}>;
${places(size)}

fn value_at(i: u32) -> ${V} {
  ${coordinatesOf(`(i / ${u32(channels)})`, size)}
  if (item >= arrayLength(&at) / ${u32(columns)}) { return ${V}(0); }
  let place = corner_of(item) + seen(turn_of(item), vec3u(plane, row, column));
  let sides = sides_of(item);
  if (!is_within(place, sides)) { return ${V}(0); }
  let element = voxel_of(item, sides, place) * ${u32(channels)} + i % ${u32(channels)};
  if (element >= ${count}) { return ${V}(0); }
  return ${read};
}

@compute @workgroup_size(64)
fn crop(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= arrayLength(&y)) { return; }
#if ${to === 'u8'}
  let first = 4u * i;
  let bytes = vec4u(vec4f(value_at(first), value_at(first + 1u), value_at(first + 2u), value_at(first + 3u)));
  y[i] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
#else
  y[i] = ${to}(value_at(i));
#endif
}`;
}

/** sums += what crops `y` say, at their places. */
export function addCropsShader(dtype: Float, { size, channels }: CropSizes): string {
  const [depth, height] = size;
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> y: array<${dtype}>;
@group(0) @binding(1) var<storage, read> at: array<i32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
${places(size)}

fn weight_at(place: vec3u) -> f32 {
  return weights[place.x] * weights[${u32(depth)} + place.y] * weights[${u32(depth + height)} + place.z];
}

@compute @workgroup_size(64)
fn add_crops(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(product(size) * channels)} * (arrayLength(&at) / ${u32(columns)})) { return; }
  let channel = i % ${u32(channels)};
  ${coordinatesOf(`(i / ${u32(channels)})`, size)}
  let place = corner_of(item) + seen(turn_of(item), vec3u(plane, row, column));
  let sides = sides_of(item);
  if (!is_within(place, sides)) { return; }
  let target_at = voxel_of(item, sides, place) * ${u32(channels)} + channel;
  if (target_at >= arrayLength(&sums)) { return; }
  let start = at[item * ${u32(columns)}];
  let size = vec3i(${size.map((n) => `${n}`).join(', ')});
  var sum = sums[target_at];
  for (var crop = 0u; crop < arrayLength(&at) / ${u32(columns)}; crop++) {
    let inside = place - corner_of(crop);
    if (at[crop * ${u32(columns)}] != start || !is_within(place, sides_of(crop)) || !is_within(inside, size)) { continue; }
    if (crop < item) { return; } // that one adds it
    let turn = turn_of(crop);
    let here = vec3u(inside);
    let shown = turned_back(turn & ${u32(turnBits(size))}, here.yz);
    let pixel = ((crop * ${u32(depth)} + plane_of(turn, here.x)) * ${u32(height)} + shown.x) * ${u32(size[2])} + shown.y;
    sum = fma(weight_at(here), f32(y[pixel * ${u32(channels)} + channel]), sum);
  }
  sums[target_at] = sum;
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] => {
  const solid = { size: [3, 4, 4], channels: 2 } as const;
  const flat = { size: [1, 5, 7], channels: 1 } as const;
  return [
    ...(['f32', 'f16', 'u8'] as const).flatMap((from) =>
      (['f32', 'f16'] as const).map((to) => cropShader(from, to, from === to ? solid : flat)),
    ),
    cropShader('u8', 'u8', solid),
    ...(['f32', 'f16'] as const).flatMap((dtype) => [addCropsShader(dtype, solid), addCropsShader(dtype, flat)]),
  ];
};
