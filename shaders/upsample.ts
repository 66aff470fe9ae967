// Bilinear ×2 with aligned corners over [N, H, W, C]: output row i reads input position i·(H − 1)/(2H − 1), and so do columns.
//   y = (1 − u)(1 − v) x₀₀ + (1 − u) v x₀₁ + u (1 − v) x₁₀ + u v x₁₁
//   dx gathers, in order, the outputs whose position lies within one input row and column of it
// One thread per quad of channels of an output (forward) or input (backward) pixel. Positions are whole-number ratios, so
// both passes find the same row exactly.
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

export interface UpsampleSizes {
  readonly dtype: Float;
  readonly batch: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

const types = ({ dtype, channels }: UpsampleSizes) =>
  channels % 4 === 0
    ? { V: 'vec4f', S: `vec4<${dtype}>`, quads: channels / 4 }
    : { V: 'f32', S: dtype, quads: channels };

/** Channels a pixel has in memory, and where this tensor's begin: it may be a slot of a concatenation. */
export interface PixelSlot {
  readonly row: number;
  readonly offset: number;
}

const slotIndex = ({ channels }: UpsampleSizes, pixel: string, slot: PixelSlot | undefined): string => {
  const width = channels % 4 === 0 ? 4 : 1;
  if (!slot) return `${pixel} * ${u32(channels / width)} + quad`;
  return `${pixel} * ${u32(slot.row / width)} + ${u32(slot.offset / width)} + quad`;
};

/** y may be a slot of wider pixels (multiples of 4 where the channels are). */
export function upsampleForward(sizes: UpsampleSizes, slot?: PixelSlot): string {
  const { V, S, quads } = types(sizes);
  const { batch, height, width } = sizes;
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read_write> y: array<${S}>;

fn pixel(item: u32, row: u32, column: u32, quad: u32) -> ${V} {
  return ${V}(x[((item * ${u32(height)} + row) * ${u32(width)} + column) * ${u32(quads)} + quad]);
}

@compute @workgroup_size(64)
fn upsample(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(batch * 4 * height * width * quads)}) { return; }
  let quad = i % ${u32(quads)};
  let column = (i / ${u32(quads)}) % ${u32(2 * width)};
  let row = (i / ${u32(quads * 2 * width)}) % ${u32(2 * height)};
  let item = i / ${u32(quads * 4 * width * height)};
  let r = row * ${u32(height - 1)};
  let c = column * ${u32(width - 1)};
  let r0 = r / ${u32(2 * height - 1)};
  let c0 = c / ${u32(2 * width - 1)};
  let u = f32(r % ${u32(2 * height - 1)}) / f32(${u32(2 * height - 1)});
  let v = f32(c % ${u32(2 * width - 1)}) / f32(${u32(2 * width - 1)});
  let r1 = min(r0 + 1u, ${u32(height - 1)});
  let c1 = min(c0 + 1u, ${u32(width - 1)});
  let top = mix(pixel(item, r0, c0, quad), pixel(item, r0, c1, quad), v);
  let bottom = mix(pixel(item, r1, c0, quad), pixel(item, r1, c1, quad), v);
  y[${slotIndex(sizes, `(i / ${u32(quads)})`, slot)}] = ${S}(mix(top, bottom, u));
}`;
}

/** dy may be a slot of wider pixels. */
export function upsampleBackward(sizes: UpsampleSizes, slot?: PixelSlot): string {
  const { V, S, quads } = types(sizes);
  const { batch, height, width } = sizes;
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> dy: array<${S}>;
@group(0) @binding(1) var<storage, read_write> dx: array<${S}>;

// Weight of input position \`at\` in output position \`out\` of an axis of \`size\` inputs: 1 − |out·(size−1)/(2·size−1) − at|.
fn weight(out: u32, at: u32, size: u32) -> f32 {
  let position = out * (size - 1u);
  let here = at * (2u * size - 1u);
  let apart = select(here - position, position - here, position > here);
  return max(0.0, 1.0 - f32(apart) / f32(2u * size - 1u));
}
// First output whose position is greater than at − 1, and first whose position is at least at + 1.
fn first_of(at: u32, size: u32) -> u32 {
  if (at == 0u || size == 1u) { return 0u; }
  return ((at - 1u) * (2u * size - 1u)) / (size - 1u) + 1u;
}
fn end_of(at: u32, size: u32) -> u32 {
  if (at + 1u >= size) { return 2u * size; }
  return ((at + 1u) * (2u * size - 1u) + size - 2u) / (size - 1u);
}

@compute @workgroup_size(64)
fn upsample_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(batch * height * width * quads)}) { return; }
  let quad = i % ${u32(quads)};
  let column = (i / ${u32(quads)}) % ${u32(width)};
  let row = (i / ${u32(quads * width)}) % ${u32(height)};
  let item = i / ${u32(quads * width * height)};
  var sum = ${V}(0.0);
  let row_end = end_of(row, ${u32(height)});
  let column_first = first_of(column, ${u32(width)});
  let column_end = end_of(column, ${u32(width)});
  for (var r = first_of(row, ${u32(height)}); r < row_end; r++) {
    let u = weight(r, row, ${u32(height)});
    for (var c = column_first; c < column_end; c++) {
      let source = ${slotIndex(sizes, `((item * ${u32(2 * height)} + r) * ${u32(2 * width)} + c)`, slot)};
      sum += u * weight(c, column, ${u32(width)}) * ${V}(dy[source]);
    }
  }
  dx[i] = ${S}(sum);
}`;
}

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [3, 8].flatMap((channels) => {
      const sizes = { dtype, batch: 2, height: 5, width: 1, channels };
      const slot = { row: 4 * channels, offset: channels };
      return [
        upsampleForward(sizes),
        upsampleBackward(sizes),
        upsampleForward(sizes, slot),
        upsampleBackward(sizes, slot),
      ];
    }),
  );
