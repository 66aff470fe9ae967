// Pooling with any window over [N, L, C], [N, H, W, C] or [N, D, H, W, C]. Along an axis window o takes the pixels
// o·stride + t·dilation − before, t = 0 … window − 1, that lie inside.
//   max       y = the largest; a NaN is larger than any number       dx = Σ dy of the windows whose first largest pixel it is
//   average   y = Σ x / count                                         dx = Σ dy / count of the windows that have it
// count is the number of the window's pixels that lie inside, or (`counted`) inside of the padded image.
// One thread per quad of channels of a window (forward) or a pixel (backward, which gathers its windows in their order). The maximum's
// backward pass is two launches: the number t of the pixel that each window chose, then the sums. The forward pass stores nothing for it.
import { functionTexts, quotientFunction } from './functions.js';
import {
  coordinates,
  coordinatesOf,
  type ImageSizes,
  pixelIndex,
  product,
  type Triple,
  vectorsOf,
} from './image-sizes.js';
import { enable, type Float, flatIndex, nanFunctions, u32, wgsl } from './wgsl.js';

export interface WindowSizes extends ImageSizes {
  readonly dtype: Float;
  readonly window: Triple;
  readonly stride: Triple;
  readonly dilation: Triple;
  /** Padding before and after the image. Every window has a pixel inside. */
  readonly before: Triple;
  readonly after: Triple;
  /** Average: whether padding counts, as zeros. */
  readonly counted?: boolean;
}

interface Axis {
  readonly name: (typeof coordinates)[number];
  readonly inputs: number;
  readonly outputs: number;
  readonly window: number;
  readonly stride: number;
  readonly dilation: number;
  readonly before: number;
  readonly after: number;
}

const axesOf = ({ input, output, window, stride, dilation, before, after }: WindowSizes): Axis[] =>
  coordinates.map((name, k) => ({
    ...{ name, inputs: input[k]!, outputs: output[k]!, window: window[k]!, stride: stride[k]! },
    ...{ dilation: dilation[k]!, before: before[k]!, after: after[k]! },
  }));

/** Expression: n / by, rounded up. */
const dividedUp = (n: string, by: number): string => (by === 1 ? `(${n})` : `((${n} + ${u32(by - 1)}) / ${u32(by)})`);

/** Expression: how many pixels of window `o`, which begins at `o_start`, come before place `end` of the padded axis. */
const pixelsBefore = ({ outputs, window, stride, dilation }: Axis, o: string, end: number): string =>
  (outputs - 1) * stride + (window - 1) * dilation < end
    ? u32(window)
    : `min(${u32(window)}, ${dividedUp(`${u32(end)} - ${o}_start`, dilation)})`;

/** `let` lines: where window `o` begins on the padded axis, the first of its pixels that lies inside, and the end of those. */
const insideOf = (axis: Axis, o: string): string => {
  const { stride, dilation, before, inputs } = axis;
  return wgsl`
  let ${o}_start = ${o} * ${u32(stride)};
  let ${o}_first = ${before ? dividedUp(`max(${o}_start, ${u32(before)}) - ${o}_start`, dilation) : '0u'};
  let ${o}_end = ${pixelsBefore(axis, o, before + inputs)};`;
};

/** Expression: the number of pixels of window `o` that count. */
const countOf = (axis: Axis, o: string, counted: boolean): string =>
  counted ? pixelsBefore(axis, o, axis.before + axis.inputs + axis.after) : `(${o}_end - ${o}_first)`;

/** Whether all windows have all their pixels counted, so that their number is known. */
const isWhole = ({ outputs, window, stride, dilation, before, inputs, after }: Axis, counted: boolean): boolean =>
  (outputs - 1) * stride + (window - 1) * dilation < before + inputs + (counted ? after : 0) && (counted || !before);

/** Expression: how many pixels of the window at `names` the mean is of, as f32; a literal where all windows have as many. */
function countExpression(sizes: WindowSizes, names: readonly string[]): string {
  const counted = sizes.counted ?? false;
  const factors = axesOf(sizes).map((axis, k) =>
    isWhole(axis, counted) ? u32(axis.window) : countOf(axis, names[k]!, counted),
  );
  return `f32(${factors.join(' * ')})`;
}

/** Loops over the pixels of the window at (plane, row, column) that lie inside; they have `_tap` and `_at`. */
function overWindow(axes: readonly Axis[], body: string): string {
  return axes.reduceRight(
    (inner, { name: o, dilation, before }) => wgsl`
  for (var ${o}_tap = ${o}_first; ${o}_tap < ${o}_end; ${o}_tap++) {
  let ${o}_at = ${o}_start + ${o}_tap * ${u32(dilation)} - ${u32(before)};${inner}
  }`,
    body,
  );
}

const tapNumber = ({ window: [, height, width] }: WindowSizes, suffix: string): string =>
  `(plane_${suffix} * ${u32(height)} + row_${suffix}) * ${u32(width)} + column_${suffix}`;

const head = ({ dtype }: WindowSizes, V: string, functions: (wide: boolean) => string): string => wgsl`${enable(dtype)}
alias V = ${V};
${functions(V === 'vec4f')}`;

/** What kernels of averages call, where those of maxima call nanFunctions. */
const division = functionTexts(quotientFunction);

/** A kernel of a thread per quad of each pixel of `size`: `x` and `result`, and whatever `bindings` say. */
const perPixel = (
  sizes: WindowSizes,
  {
    name,
    size,
    bindings,
    body,
    functions = nanFunctions,
  }: {
    name: string;
    size: Triple;
    bindings: readonly string[];
    body: string;
    functions?: (wide: boolean) => string;
  },
): string => {
  const { V, quads } = vectorsOf(sizes);
  return wgsl`${head(sizes, V, functions)}
${bindings.map((binding, n) => `@group(0) @binding(${n}) var<storage, ${binding};`).join('\n')}

@compute @workgroup_size(64)
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(sizes.batch * product(size) * quads)}) { return; }
  let quad = i % ${u32(quads)};
  ${coordinatesOf(`(i / ${u32(quads)})`, size)}${body}
}`;
};

/** Vectors of the numbers of chosen pixels. */
const choiceType = (V: string): string => (V === 'vec4f' ? 'vec4u' : 'u32');

/** The walk through a window that finds its first largest pixel. */
function largestPixel(sizes: WindowSizes, numbered: boolean): string {
  const { V, quads } = vectorsOf(sizes);
  const axes = axesOf(sizes);
  const at = (...names: [string, string, string]): string =>
    `V(x[${pixelIndex(sizes.input, ...names)} * ${u32(quads)} + quad])`;
  const [plane, row, column] = axes.map(
    ({ name: o, dilation, before }) => `(${o}_start + ${o}_first * ${u32(dilation)} - ${u32(before)})`,
  ) as [string, string, string];
  const U = choiceType(V);
  return wgsl`${axes.map((axis) => insideOf(axis, axis.name)).join('')}
  var most = ${at(plane, row, column)};
#if ${numbered}
  var chosen = ${U}(${tapNumber(sizes, 'first')});
#endif
${overWindow(
  axes,
  wgsl`
  let v = ${at('plane_at', 'row_at', 'column_at')};
  let is_larger = !is_nan(most) & (is_nan(v) | (v > most));
  most = select(most, v, is_larger);
#if ${numbered}
  chosen = select(chosen, ${U}(${tapNumber(sizes, 'tap')}), is_larger);
#endif`,
)}`;
}

export function windowMax(sizes: WindowSizes): string {
  const { S } = vectorsOf(sizes);
  return perPixel(sizes, {
    name: 'max_of_windows',
    size: sizes.output,
    bindings: [`read> x: array<${S}>`, `read_write> y: array<${S}>`],
    body: wgsl`${largestPixel(sizes, false)}
  y[i] = ${S}(most);`,
  });
}

/** For each element of y, the number of the pixel in its window that has the maximum. */
export function windowChoice(sizes: WindowSizes): string {
  const { V, S } = vectorsOf(sizes);
  return perPixel(sizes, {
    name: 'choice_of_windows',
    size: sizes.output,
    bindings: [`read> x: array<${S}>`, `read_write> choice: array<${choiceType(V)}>`],
    body: wgsl`${largestPixel(sizes, true)}
  choice[i] = chosen;`,
  });
}

export function windowAverage(sizes: WindowSizes): string {
  const { S, quads } = vectorsOf(sizes);
  const axes = axesOf(sizes);
  return perPixel(sizes, {
    name: 'average_of_windows',
    size: sizes.output,
    bindings: [`read> x: array<${S}>`, `read_write> y: array<${S}>`],
    functions: division,
    body: wgsl`${axes.map((axis) => insideOf(axis, axis.name)).join('')}
  var sum = V(0.0);${overWindow(
    axes,
    wgsl`
  sum += V(x[${pixelIndex(sizes.input, 'plane_at', 'row_at', 'column_at')} * ${u32(quads)} + quad]);`,
  )}
  y[i] = ${S}(quotient(sum, V(${countExpression(sizes, coordinates)})));`,
  });
}

/** The gradient: of the maximum with `choice`, of the average without. */
export function windowGradient(sizes: WindowSizes, kind: 'max' | 'average'): string {
  const { V, S, quads } = vectorsOf(sizes);
  const axes = axesOf(sizes);
  const outs = coordinates.map((name) => `${name}_out`) as [string, string, string];
  const isKnown = axes.every((axis) => isWhole(axis, sizes.counted ?? false));
  const count = countExpression(sizes, outs);
  const windows = ({ name: a, window, stride, dilation, before, outputs }: Axis): string => {
    const extent = (window - 1) * dilation + 1;
    return wgsl`
  let ${a}_place = ${a} + ${u32(before)};
  let ${a}_begin = ${dividedUp(`max(${a}_place + 1u, ${u32(extent)}) - ${u32(extent)}`, stride)};
  let ${a}_windows = min(${u32(outputs)}, ${a}_place / ${u32(stride)} + 1u);`;
  };
  const value =
    kind === 'max'
      ? `select(V(0.0), V(dy[o]), choice[o] == ${choiceType(V)}(${tapNumber(sizes, 'tap')}))`
      : isKnown
        ? 'V(dy[o])'
        : `quotient(V(dy[o]), V(${count}))`;
  const loops = axes.reduceRight(
    (inner, axis) => {
      const { name: a, stride, dilation } = axis;
      return wgsl`
  for (var ${a}_out = ${a}_begin; ${a}_out < ${a}_windows; ${a}_out++) {
  let ${a}_apart = ${a}_place - ${a}_out * ${u32(stride)};
#if ${dilation > 1}
  if (${a}_apart % ${u32(dilation)} != 0u) { continue; }
#endif
#if ${kind === 'max'}
  let ${a}_tap = ${a}_apart / ${u32(dilation)};
#elif ${!isKnown}
  ${insideOf(axis, `${a}_out`)}
#endif
${inner}
  }`;
    },
    wgsl`
  let o = ${pixelIndex(sizes.output, ...outs)} * ${u32(quads)} + quad;
  sum += ${value};`,
  );
  return perPixel(sizes, {
    name: `gradient_of_windows`,
    size: sizes.input,
    bindings: [
      `read> dy: array<${S}>`,
      `read_write> dx: array<${S}>`,
      ...(kind === 'max' ? [`read> choice: array<${choiceType(V)}>`] : []),
    ],
    ...(kind === 'average' && { functions: division }),
    body: wgsl`${axes.map(windows).join('')}
  var sum = V(0.0);${loops}
  dx[i] = ${S}(${kind === 'average' && isKnown ? `quotient(sum, V(${count}))` : 'sum'});`,
  });
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [3, 8].flatMap((channels) => {
      const of = (some: Partial<WindowSizes>): WindowSizes => ({
        ...{ dtype, batch: 2, channels, input: [1, 1, 9], output: [1, 1, 3], window: [1, 1, 3], stride: [1, 1, 3] },
        ...{ dilation: [1, 1, 1], before: [0, 0, 0], after: [0, 0, 0] },
        ...some,
      });
      return [
        of({}),
        of({ input: [1, 8, 9], output: [1, 4, 5], window: [1, 3, 3], stride: [1, 2, 2], before: [0, 1, 1] }),
        of({ input: [4, 8, 9], output: [2, 2, 3], window: [2, 3, 2], stride: [2, 4, 3], dilation: [1, 2, 3] }),
        of({
          input: [1, 1, 6],
          output: [1, 1, 4],
          window: [1, 1, 3],
          stride: [1, 1, 2],
          before: [0, 0, 1],
          counted: true,
        }),
      ].flatMap((sizes) => [
        windowMax(sizes),
        windowChoice(sizes),
        windowAverage(sizes),
        windowGradient(sizes, 'max'),
        windowGradient(sizes, 'average'),
      ]);
    }),
  );
