// y_t = Σ_s p_ts v_s, p_t = softmax_s(scale · q_t · k_s + mask_ts), for each item n and head h; tensors are [N, T or S, H, d].
//   dv_s = Σ_t p_ts dy_t    ds_ts = p_ts (dy_t · v_s − y_t · dy_t)    dq_t = scale Σ_s ds_ts k_s    dk_s = scale Σ_t ds_ts q_t
// No [T, S] matrix is stored: the forward pass keeps a running maximum m and Σ exp(x − m) over the keys (Milakov & Gimelshein 2018; Dao
// et al., NeurIPS 2022) and stores both, and the backward passes compute p again from them. A row that sees no key gives 0.
// A workgroup takes 64/lanes rows (queries; keys for dk and dv) of a head and walks the others; `lanes` threads share a row's d
// columns, at most 32 each, in named vec4s. With one lane threads never meet; else they add up the products of 16 others at a time in
// shared memory. Every order is fixed; all sums are f32.
import { byteAt } from './classes.js';
import { enable, type Float, flatIndex, isNan, u32, wgsl } from './wgsl.js';

/** How a mask is read: u8 hides where it is 0, floats are added. Strides in elements along items, heads, queries, keys. */
export interface AttentionMask {
  readonly type: 'u8' | Float;
  readonly strides: readonly [number, number, number, number];
}

export interface AttentionSizes {
  readonly dtype: Float;
  readonly items: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  /** d, at most 128. */
  readonly columns: number;
  /** Query t sees keys up to t + keys − queries. */
  readonly causal: boolean;
  readonly mask?: AttentionMask;
}

const workgroup = 64;
/** Others whose products the lanes of a row add up at a time. */
const together = 16;
/** Below every finite score: the maximum of no scores. */
const lowest = '-0x1.fffffep+127f';

/** How the columns of a row are shared: `per` vec4s for each of `lanes` threads, `quads` in all. */
function shareOf(columns: number) {
  const quads = Math.ceil(columns / 4);
  const lanes = quads <= 8 ? 1 : quads <= 16 ? 2 : 4;
  return { quads, lanes, per: Math.ceil(quads / lanes), rows: workgroup / lanes };
}

/** Workgroups of a pass over the queries, or over the keys. */
export const attentionGroups = ({ items, heads, columns }: AttentionSizes, rows: number): number =>
  items * heads * Math.ceil(rows / shareOf(columns).rows);

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** One line of text for each vec4 of a lane. */
const each = (columns: number, line: (i: number) => string): string => range(shareOf(columns).per).map(line).join(' ');

const stored = ({ dtype, columns }: AttentionSizes): string => (columns % 4 === 0 ? `vec4<${dtype}>` : dtype);

/** `fn load_NAME(row, quad)`: four columns of the row that begins at element `row`; 0 beyond the last column. */
function loader(name: string, { columns }: AttentionSizes): string {
  const { quads, lanes, per } = shareOf(columns);
  const guard = quads < lanes * per ? `if (quad >= ${u32(quads)}) { return vec4f(0.0); }` : '';
  if (columns % 4 === 0) {
    return `fn load_${name}(row: u32, quad: u32) -> vec4f { ${guard} return vec4f(${name}[row / 4u + quad]); }`;
  }
  const parts = range(4).map((i) => `select(0.0, f32(${name}[min(at + ${u32(i)}, end)]), at + ${u32(i)} <= end)`);
  return wgsl`fn load_${name}(row: u32, quad: u32) -> vec4f {
  ${guard}
  let at = row + 4u * quad;
  let end = row + ${u32(columns - 1)};
  return vec4f(${parts.join(', ')});
}`;
}

/** `fn store_NAME(row, quad, v)`. */
function storer(name: string, sizes: AttentionSizes): string {
  const { dtype, columns } = sizes;
  const { quads, lanes, per } = shareOf(columns);
  const guard = quads < lanes * per ? `if (quad >= ${u32(quads)}) { return; }` : '';
  if (columns % 4 === 0) {
    return `fn store_${name}(row: u32, quad: u32, v: vec4f) { ${guard} ${name}[row / 4u + quad] = ${stored(sizes)}(v); }`;
  }
  const parts = range(4).map(
    (i) => `if (4u * quad + ${u32(i)} < ${u32(columns)}) { ${name}[row + 4u * quad + ${u32(i)}] = ${dtype}(v[${i}]); }`,
  );
  return `fn store_${name}(row: u32, quad: u32, v: vec4f) { ${guard} ${parts.join(' ')} }`;
}

/** Module scope: declarations, loads and stores, `seen` (whether a query sees a key) and `added` (what the mask adds). */
function declarations(
  sizes: AttentionSizes,
  reads: readonly string[],
  writes: readonly string[],
  others: readonly string[],
): string {
  const { mask, causal, queries, keys } = sizes;
  let binding = 0;
  const declare = (name: string, access: string, type: string): string =>
    `@group(0) @binding(${binding++}) var<storage, ${access}> ${name}: array<${type}>;`;
  const [ofItem, ofHead, ofQuery, ofKey] = (mask?.strides ?? [0, 0, 0, 0]).map((n) => u32(n));
  const place = `n * ${ofItem} + h * ${ofHead} + t * ${ofQuery} + s * ${ofKey}`;
  const conditions = [
    ...(causal ? [`s + ${u32(queries)} <= t + ${u32(keys)}`] : []),
    ...(mask?.type === 'u8' ? [`${byteAt('mask', place)} != 0u`] : []),
  ];
  const lines = [
    enable(sizes.dtype === 'f16' || mask?.type === 'f16' ? 'f16' : 'f32'),
    ...reads.map((name) => declare(name, 'read', stored(sizes))),
    ...writes.map((name) => declare(name, 'read_write', stored(sizes))),
    ...others.map((other) => declare(other.split(':')[0]!, other.split(':')[1]!, other.split(':')[2]!)),
    ...(mask ? [declare('mask', 'read', mask.type === 'u8' ? 'u32' : mask.type)] : []),
    ...reads.map((name) => loader(name, sizes)),
    ...writes.map((name) => storer(name, sizes)),
    `fn seen(n: u32, h: u32, t: u32, s: u32) -> bool { return ${conditions.join(' && ') || 'true'}; }`,
    `fn added(n: u32, h: u32, t: u32, s: u32) -> f32 { return ${mask && mask.type !== 'u8' ? `f32(mask[${place}])` : '0.0'}; }`,
  ];
  return lines.join('\n');
}

/** The head of a pass over `rows` rows a head: defines n, h, `own` (the row, or the last one), `base` (its first element), `quad`. */
function head(name: string, sizes: AttentionSizes, rows: number, products: number): string {
  const { items, heads, columns } = sizes;
  const { lanes, per, rows: block } = shareOf(columns);
  const blocks = Math.ceil(rows / block);
  return wgsl`
#if ${lanes > 1}
var<workgroup> products: array<f32, ${products * together * workgroup}>;
#endif

@compute @workgroup_size(${workgroup})
fn ${name}(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  let which = group.y * groups.x + group.x;
  if (which >= ${u32(items * heads * blocks)}) { return; }
  let n = which / ${u32(heads * blocks)};
  let h = which / ${u32(blocks)} % ${u32(heads)};
  let from_row = which % ${u32(blocks)} * ${u32(block)};
  let row = from_row + thread / ${u32(lanes)};
  let quad = thread % ${u32(lanes)} * ${u32(per)};
  let own = min(row, ${u32(rows - 1)});
  let base = ((n * ${u32(rows)} + own) * ${u32(heads)} + h) * ${u32(columns)};`;
}

/**
 * A loop over the others from `begin` to before `end`, `count` of them a head. `dots` are expressions of a vec4's part of a product for
 * the lane's vec4 i (with `other`, the first element of the other's row); `body` gets the products d0, d1, … and the index `at`.
 */
function overOthers(
  sizes: AttentionSizes,
  {
    begin,
    end,
    count,
    dots,
    body,
  }: { begin: string; end: string; count: number; dots: ((i: number) => string)[]; body: string },
): string {
  const { heads, columns } = sizes;
  const { lanes } = shareOf(columns);
  const place = (at: string): string => `((n * ${u32(count)} + ${at}) * ${u32(heads)} + h) * ${u32(columns)}`;
  const sums = dots.map((dot) => range(shareOf(columns).per).map(dot).join(' + '));
  if (lanes === 1) {
    return wgsl`for (var at = ${begin}; at < ${end}; at++) {
    let other = ${place('at')};
    ${sums.map((sum, d) => `let d${d} = ${sum};`).join('\n    ')}
    ${body}
  }`;
  }
  const product = (d: number, j: string, thread: string): string =>
    `products[(${u32(d * together)} + ${j}) * ${u32(workgroup)} + ${thread}]`;
  const met = (d: number): string =>
    range(lanes)
      .map((lane) => product(d, 'j', `thread / ${u32(lanes)} * ${u32(lanes)} + ${u32(lane)}`))
      .join(' + ');
  return wgsl`for (var first = ${begin}; first < ${end}; first += ${u32(together)}) {
    for (var j = 0u; j < ${u32(together)}; j++) {
      let other = ${place(`min(first + j, ${u32(count - 1)})`)};
      ${sums.map((sum, d) => `${product(d, 'j', 'thread')} = ${sum};`).join('\n      ')}
    }
    workgroupBarrier();
    for (var j = 0u; j < min(${u32(together)}, ${end} - first); j++) {
      let at = first + j;
      let other = ${place('at')};
      ${dots.map((_, d) => `let d${d} = ${met(d)};`).join('\n      ')}
      ${body}
    }
    workgroupBarrier();
  }`;
}

/** The first key that no query of the workgroup sees. */
function keysEnd({ causal, queries, keys, columns }: AttentionSizes): string {
  if (!causal) return u32(keys);
  return `min(${u32(keys)}, max(min(from_row + ${u32(shareOf(columns).rows)}, ${u32(queries)}) + ${u32(keys)}, ${u32(queries)}) - ${u32(queries)})`;
}

/** statistics [N, T, H] of (m, log Σ exp(x − m)); log Σ is 0 where a row sees no key. */
export function attentionForward(sizes: AttentionSizes): string {
  const { queries, keys, columns, heads } = sizes;
  return wgsl`${declarations(sizes, ['q', 'k', 'v'], ['y'], ['statistics:read_write:vec2f', 'numbers:read:f32'])}
${head('attention', sizes, queries, 1)}
  let scale = numbers[0];
  ${each(columns, (i) => `let q${i} = load_q(base, quad + ${u32(i)});`)}
  ${each(columns, (i) => `var y${i} = vec4f(0.0);`)}
  var most = ${lowest};
  var sum = 0.0;
  let end = ${keysEnd(sizes)};
  ${overOthers(sizes, {
    begin: '0u',
    end: 'end',
    count: keys,
    dots: [(i) => `dot(q${i}, load_k(other, quad + ${u32(i)}))`],
    body: `if (seen(n, h, own, at)) {
      let x = d0 * scale + added(n, h, own, at);
      if (x > most) {
        let shrink = exp(most - x);
        sum *= shrink; ${each(columns, (i) => `y${i} *= shrink;`)}
        most = x;
      }
      let p = select(exp(x - most), x, ${isNan('x', 'f32')}); // exp may drop a NaN
      sum += p; ${each(columns, (i) => `y${i} += p * load_v(other, quad + ${u32(i)});`)}
    }`,
  })}
  if (row >= ${u32(queries)}) { return; }
  let share = select(1.0 / sum, 0.0, sum == 0.0);
  ${each(columns, (i) => `store_y(base, quad + ${u32(i)}, y${i} * share);`)}
  if (quad == 0u) {
    statistics[(n * ${u32(queries)} + row) * ${u32(heads)} + h] = vec2f(most, select(log(sum), 0.0, sum == 0.0));
  }
}`;
}

/** rows [N, T, H] of (m, log Σ, y_t · dy_t, scale): what the gradients need of a query. One thread per row. */
export function attentionRows(sizes: AttentionSizes): string {
  const { items, queries, heads, columns } = sizes;
  const { mask: _, ...unmasked } = sizes;
  return wgsl`${declarations(unmasked, ['y', 'dy'], [], ['statistics:read:vec2f', 'rows:read_write:vec4f', 'numbers:read:f32'])}

@compute @workgroup_size(64)
fn attention_rows(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(items * queries * heads)}) { return; }
  var sum = 0.0;
  for (var quad = 0u; quad < ${u32(shareOf(columns).quads)}; quad++) {
    sum += dot(load_y(i * ${u32(columns)}, quad), load_dy(i * ${u32(columns)}, quad));
  }
  rows[i] = vec4f(statistics[i], sum, numbers[0]);
}`;
}

/** p and ds of query `t` and key `s`, from the products d0 = q · k and d1 = dy · v and the query's row r. */
const slopes = (t: string, s: string): string =>
  `let x = ((d0 * r.w + added(n, h, ${t}, ${s})) - r.x) - r.y; let p = select(exp(x), x, ${isNan('x', 'f32')}); let ds = p * (d1 - r.z) * r.w;`;

export function attentionQueries(sizes: AttentionSizes): string {
  const { queries, keys, columns, heads } = sizes;
  return wgsl`${declarations(sizes, ['q', 'k', 'v', 'dy'], ['dq'], ['rows:read:vec4f'])}
${head('attention_queries', sizes, queries, 2)}
  let r = rows[(n * ${u32(queries)} + own) * ${u32(heads)} + h];
  ${each(columns, (i) => `let q${i} = load_q(base, quad + ${u32(i)}); let g${i} = load_dy(base, quad + ${u32(i)});`)}
  ${each(columns, (i) => `var dq${i} = vec4f(0.0);`)}
  let end = ${keysEnd(sizes)};
  ${overOthers(sizes, {
    begin: '0u',
    end: 'end',
    count: keys,
    dots: [(i) => `dot(q${i}, load_k(other, quad + ${u32(i)}))`, (i) => `dot(g${i}, load_v(other, quad + ${u32(i)}))`],
    body: `if (seen(n, h, own, at)) {
      ${slopes('own', 'at')}
      ${each(columns, (i) => `dq${i} += ds * load_k(other, quad + ${u32(i)});`)}
    }`,
  })}
  if (row >= ${u32(queries)}) { return; }
  ${each(columns, (i) => `store_dq(base, quad + ${u32(i)}, dq${i});`)}
}`;
}

export function attentionKeys(sizes: AttentionSizes): string {
  const { queries, keys, columns, heads, causal } = sizes;
  const begin = causal ? `max(from_row + ${u32(queries)}, ${u32(keys)}) - ${u32(keys)}` : '0u';
  return wgsl`${declarations(sizes, ['q', 'k', 'v', 'dy'], ['dk', 'dv'], ['rows:read:vec4f'])}
${head('attention_keys', sizes, keys, 2)}
  ${each(columns, (i) => `let k${i} = load_k(base, quad + ${u32(i)}); let v${i} = load_v(base, quad + ${u32(i)});`)}
  ${each(columns, (i) => `var dk${i} = vec4f(0.0); var dv${i} = vec4f(0.0);`)}
  ${overOthers(sizes, {
    begin,
    end: u32(queries),
    count: queries,
    dots: [(i) => `dot(load_q(other, quad + ${u32(i)}), k${i})`, (i) => `dot(load_dy(other, quad + ${u32(i)}), v${i})`],
    body: `if (seen(n, h, at, own)) {
      let r = rows[(n * ${u32(queries)} + at) * ${u32(heads)} + h];
      ${slopes('at', 'own')}
      ${each(columns, (i) => `dk${i} += ds * load_q(other, quad + ${u32(i)}); dv${i} += p * load_dy(other, quad + ${u32(i)});`)}
    }`,
  })}
  if (row >= ${u32(keys)}) { return; }
  ${each(columns, (i) => `store_dk(base, quad + ${u32(i)}, dk${i}); store_dv(base, quad + ${u32(i)}, dv${i});`)}
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [5, 32, 40, 66, 128].flatMap((columns, i) => {
      const type = (['u8', 'f32', 'f16'] as const)[i % 3]!;
      const mask = { type, strides: [0, 0, 70, 1] } as const;
      const shape = { dtype, items: 2, heads: 3, queries: 50, keys: 70, columns };
      return [{ causal: true }, { causal: false, mask }].flatMap((kind) => {
        const sizes = { ...shape, ...kind };
        return [attentionForward(sizes), attentionRows(sizes), attentionQueries(sizes), attentionKeys(sizes)];
      });
    }),
  );
