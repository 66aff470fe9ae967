// A program as code that runs: the leaves, the calls, and the number that is wrong.
import { shapesOf } from './expected.js';
import {
  type Argument,
  hyperparameters,
  isRef,
  type Leaf,
  type Program,
  random,
  streamOf,
  weightsStream,
} from './program.js';
import type { Fault } from './run.js';

const show = (value: Argument, name: (id: number) => string): string => {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value !== 'object') return String(value);
  if (isRef(value)) return name(value.$);
  if (value === random || ('random' in value && value.random === true)) return 'random';
  if (Array.isArray(value)) return `[${value.map((member) => show(member, name)).join(', ')}]`;
  const members = Object.entries(value).map(([key, member]) => {
    const text = show(member as Argument, name);
    return text === key ? key : `${key}: ${text}`;
  });
  return `{ ${members.join(', ')} }`;
};

/** JavaScript, to be run where the package is: it prints the numbers that the fault is about. */
export function codeOf(program: Program, { mode, step, at }: Fault): string {
  const { stepping } = program;
  const kinds = new Map(program.leaves.map((leaf) => [leaf.id, leaf.kind]));
  const name = (id: number): string =>
    `${kinds.has(id) ? { parameter: 'w', input: 'x', labels: 'labels', running: 'r', teacher: 't' }[kinds.get(id)!] : 'v'}${id}`;
  const list = (ids: readonly number[]): string => ids.map(name).join(', ');
  const draws = program.calls.some(({ args }) => JSON.stringify(args).includes('{"random":true}'));
  const optimizer = stepping && (stepping.kind === 'sgd' ? 'createSgd' : 'createAdamW');
  const result = ((): string => {
    const [, kind, id] = /^(\w+)(?: of)? (\d+)$/.exec(at?.name ?? '') ?? [];
    if (kind === 'gradient') return `gradients.get(${name(Number(id))})`;
    return kind ? name(Number(id)) : '';
  })();
  const data = ({ id, kind, shape, low, high }: Leaf, at: number): string =>
    `numbers(${streamOf(id, at)}, [${shape}], ${low}, ${high})${kind === 'labels' ? '.map(Math.floor)' : ''}`;
  const leaf = (each: Leaf): string => {
    const { id, kind, shape } = each;
    const options = kind === 'parameter' ? ', { requiresGrad: true }' : kind === 'labels' ? ", { dtype: 'u8' }" : '';
    return `const ${name(id)} = tensor(gpu, ${data(each, 0)}, [${shape}]${options});`;
  };
  const body = [
    ...(draws && !mode.captured ? [`const random = createRandom(gpu, ${program.seed}); random.setStep(step);`] : []),
    ...program.calls.map(({ id, name: op, args, untracked }) => {
      const call = `${op}(${args.map((arg) => show(arg, name)).join(', ')})`;
      const mark = program.wanted.includes(id) ? ` ${name(id)}.requiresGrad = true;` : '';
      return `const ${name(id)} = ${untracked ? `noGrad(gpu, () => ${call})` : call};${mark}`;
    }),
    ...(program.early && !mode.captured && program.reads.length
      ? [`for (const t of [${list(program.reads)}]) await t.read();`]
      : []),
    ...(program.seeded
      ? [`const gradients = backward(${name(program.outputs[0]!)}, weights[0]);`]
      : [
          `const loss = [${list(program.outputs)}].map((y, i) => sum(mul(y, weights[i]))).reduce((a, b) => add(a, b));`,
          'const gradients = backward(loss);',
        ]),
    ...(stepping
      ? [
          `optimizer.step(gradients, lr${stepping.guarded || stepping.teacher?.by === 'average' ? `, { ${[stepping.teacher?.by === 'average' ? `average: { tensors: [${list(stepping.teacher.ids)}], decay }` : '', stepping.guarded && !program.seeded ? 'guard: loss' : ''].filter(Boolean).join(', ')} }` : ''});`,
        ]
      : []),
    ...(stepping?.teacher?.by === 'ema'
      ? [`ema([${list(stepping.teacher.ids)}], [${list(stepping.parameters)}], decay);`]
      : []),
    `return [${[...new Set([result, ...program.reads.map(name)])].filter(Boolean).join(', ')}];`,
  ];
  const used = new Set([
    ...program.calls.map(({ name: op }) => op),
    ...program.calls.filter(({ untracked }) => untracked).map(() => 'noGrad'),
    'backward',
    ...(program.seeded ? [] : ['add', 'mul', 'sum']),
    ...(mode.captured ? ['capture'] : []),
    ...(draws ? ['createRandom'] : []),
    'tensor',
    'uniformStream',
    ...(optimizer ? [optimizer] : []),
    ...(stepping?.packed || stepping?.teacher?.packed ? ['pack'] : []),
    ...(stepping?.teacher?.by === 'ema' ? ['ema'] : []),
  ]);
  const shapes = shapesOf(program);
  const weights = program.outputs.map(
    (id, i) =>
      `  tensor(gpu, numbers(${weightsStream + i}, [${shapes.get(id)}], -1, 1), [${shapes.get(id)}]), // of ${name(id)}`,
  );
  const inputs = program.leaves.filter(({ kind }) => kind === 'input' || kind === 'labels');
  const call = (at: number): string[] => [
    ...(at ? inputs.map((each) => `${name(each.id)}.write(${data(each, at)});`) : []),
    ...(draws && mode.captured ? [`random.setStep(${at});`] : []),
    `${at === step ? 'const results = ' : ''}${mode.captured ? 'step()' : `await work(${at})`};`,
  ];
  return [
    `import { ${[...used].sort().join(', ')} } from 'wgrad';`,
    "import { openDevice } from 'wgrad/node';",
    'const gpu = await openDevice();',
    `Object.assign(gpu.flags, { fuse: ${mode.fuse}, pool: ${mode.pool}, poison: ${mode.poison} });`,
    'const numbers = (stream, shape, low, high) => {',
    `  const uniform = uniformStream(${program.seed}, stream);`,
    '  return Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => low + (high - low) * uniform());',
    '};',
    ...program.leaves.map(leaf),
    'const weights = [',
    ...weights,
    '];',
    ...(stepping?.packed ? [`pack([${list(stepping.parameters)}]);`] : []),
    ...(stepping?.teacher?.packed ? [`pack([${list(stepping.teacher.ids)}]);`] : []),
    ...(stepping
      ? [
          `const optimizer = ${optimizer}([${list(stepping.parameters)}], ${JSON.stringify(hyperparameters[stepping.kind])});`,
          `const [lr, decay] = [tensor(gpu, ${hyperparameters.lr}), tensor(gpu, ${hyperparameters.decay})];`,
        ]
      : []),
    ...(draws && mode.captured ? [`const random = createRandom(gpu, ${program.seed});`] : []),
    `const work = ${mode.captured ? '() =>' : 'async (step) =>'} {`,
    ...body.map((line) => `  ${line}`),
    '};',
    ...(mode.captured ? ['const step = capture(gpu, work);'] : []),
    ...Array.from({ length: step + 1 }, (_, i) => call(i)).flat(),
    ...(at
      ? [`console.log((await results[0].read())[${at.index}]); // ${at.name}: expected ${at.expected}, was ${at.got}`]
      : ['for (const t of results) console.log(await t.read());']),
    'gpu.close();',
  ].join('\n');
}
