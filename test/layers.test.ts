// Files import only downwards ("Floors" in engine/README.md and train/README.md). Read off the sources' import lines, type imports included.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('layers');
const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** The engine's floors, lowest first; a file imports from its own floor or below. `ops` is a folder. */
const floors = [
  ['flags', 'shape', 'random', 'wgsl-sizes', 'arguments', 'elements'],
  ['device'],
  ['kernel', 'memory', 'profile'],
  ['changes', 'fate'],
  ['launch'],
  ['diagnose', 'check-launch'],
  ['stream'],
  ['transfer'],
  ['tensor', 'buffer', 'bindable'],
  ['pack'],
  ['verify'],
  ['autograd'],
  ['tuning', 'tuned', 'choices', 'trial', 'comparison', 'proof', 'tuner'],
  ['ops'],
  ['step-arguments', 'capture'],
  ['tune'],
  ['index', 'custom', 'debug', 'method'],
];
/** What others import of the engine, by purpose. */
const entries = ['index', 'custom', 'debug', 'method', 'tune'];
/** Entries beside the floors: they know Node and nothing above the device. */
const nodeEntries = ['node', 'drivers', 'swiftshader', 'native', 'cache-folder', 'tuner-cache'];
const floorOf = (name: string): number => floors.findIndex((names) => names.includes(name));
/** The trainer's floors, lowest first: folders of `train/`, and on top the files beside them. */
const trainFloors = [
  ...[
    'files',
    'settings',
    'method',
    'data',
    'evaluation',
    'pictures',
    'run',
    'report',
    'training',
    'sweep',
    'commands',
  ],
  ...['cli', 'index'],
];
/** What runs in a browser as under Node: nothing that these reach when they run knows Node. */
const pure = [
  ...[
    'engine/index',
    'engine/custom',
    'engine/debug',
    'engine/method',
    'engine/tune',
    'model/index',
    'train/method/index',
    'train/data/index',
    'train/evaluation/predictor',
  ],
  ...['train/settings/settings', 'train/report/script'],
];
/** Shader files without an entry point hold snippets, which any shader may use. */
const isSnippet = (path: string): boolean => !/@compute/.test(readFileSync(join(root, `${path}.ts`), 'utf8'));
const packages: Record<string, RegExp> = {
  engine: /^webgpu$/,
  shaders: /^wgsl-preprocessor\//,
  model: /^$/,
  train: /^(node:|nifti-reader-js$|valibot$|uplot(\/|$)|h5wasm\/)/,
};

/** What is wrong with `from` (a path without ending) importing `to` (such a path, or a package); undefined if nothing. */
function objection(from: string, to: string, isPackage: boolean): string | undefined {
  const room = from.split('/')[0]!;
  const target = to.split('/')[0]!;
  const engineFile = from.split('/')[1]!;
  const entry = room === 'engine' && nodeEntries.includes(engineFile);
  if (isPackage) {
    if (!(room in packages) || packages[room]!.test(to)) return undefined;
    return to.startsWith('node:') && entry ? undefined : `'${room}' may not use the package '${to}'`;
  }
  if (room === 'examples') {
    return target === 'examples' ? undefined : "examples use the package's entries";
  }
  if (['bench', 'test'].includes(room)) return undefined;
  // The command line starts the benchmarks, and nothing else knows them.
  if (target === 'bench' && from.startsWith('train/commands/')) return undefined;
  if (['bench', 'test', 'examples'].includes(target)) return `nothing imports from '${target}'`;
  if (room === 'shaders') {
    return target === 'shaders' && isSnippet(to) ? undefined : 'a shader imports only snippets: files without @compute';
  }
  if (room === 'engine') {
    if (target === 'shaders') return undefined;
    if (target !== 'engine') return `the engine does not know '${target}'`;
    const other = to.split('/')[1]!;
    if (entry) {
      const allowed =
        nodeEntries.includes(other) || floorOf(other) <= 1 || ['tuning', 'tuned', 'choices'].includes(other);
      return allowed ? undefined : 'this entry only opens devices, and reads what was tuned for them';
    }
    if (nodeEntries.includes(other)) return 'the engine runs in a browser: it does not know Node';
    if (floorOf(engineFile) < 0) return `'engine/${engineFile}' has no floor: add it to this test and engine/README.md`;
    return floorOf(other) <= floorOf(engineFile) ? undefined : `'${engineFile}' lies below '${other}'`;
  }
  if (target === 'shaders') return 'only the engine imports shaders';
  if (
    target === 'engine' &&
    !entries.includes(to.slice('engine/'.length)) &&
    !(room === 'train' && to === 'engine/node')
  ) {
    return `use an entry of the engine: ${entries.join(', ')}`;
  }
  if (room === 'model' && target === 'train') return 'a model does not know its trainer';
  if (room === 'train' && target === 'train') {
    const [low, high] = [to, from].map((path) => trainFloors.indexOf(path.split('/')[1]!)) as [number, number];
    if (low < 0 || high < 0) return `'${low < 0 ? to : from}' has no floor: add it to this test and train/README.md`;
    return low <= high ? undefined : `'${from.split('/')[1]}' lies below '${to.split('/')[1]}'`;
  }
  return undefined;
}

interface Import {
  readonly from: string;
  readonly to: string;
  readonly isPackage: boolean;
  /** `import type`: nothing of it is left when it runs. */
  readonly typeOnly: boolean;
}

/** All imports of the sources: static, type-only, re-exports, dynamic with a literal. */
function imports(): Import[] {
  const found: Import[] = [];
  const rooms = ['engine', 'shaders', 'model', 'train', 'bench', 'test', 'examples'];
  for (const room of rooms.filter((name) => existsSync(join(root, name)))) {
    const files = readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }) as string[];
    for (const file of files.filter((name) => /\.m?ts$/.test(name) && !name.includes('node_modules'))) {
      const text = readFileSync(join(root, room, file), 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
      const from = posix.join(room, file.split(sep).join('/')).replace(/(\.d)?\.m?ts$/, '');
      const lines = /(import type [^;'"]*)?(?:\bfrom\s+|\bimport\s*\(\s*|\bimport\s+)['"]([^'"\n]+)['"]/g;
      for (const [, type, path] of text.matchAll(lines)) {
        const isPackage = !path!.startsWith('.');
        const to = isPackage ? path! : relative(root, resolve(root, dirname(from), path!.replace(/\.js$/, '')));
        found.push({ from, to: to.split(sep).join('/'), isPackage, typeOnly: type !== undefined });
      }
    }
  }
  return found;
}

test('every import points downwards', () => {
  const all = imports();
  assert.ok(all.length > 50, `only ${all.length} imports found: is the reader broken?`);
  const wrong = all.flatMap(({ from, to, isPackage, typeOnly }) => {
    if (typeOnly && from.startsWith('shaders/') && to.startsWith('shaders/')) return []; // no text is taken over
    const problem = objection(from, to, isPackage);
    return problem ? [`${from} → ${to}: ${problem}`] : [];
  });
  assert.equal(wrong, []);
});

test('what a browser runs knows no Node', () => {
  const runs = new Map<string, string[]>();
  for (const { from, to, typeOnly } of imports()) if (!typeOnly) runs.set(from, [...(runs.get(from) ?? []), to]);
  for (const start of pure) {
    assert.ok(runs.has(start), `${start} imports nothing: is it still there?`);
    const reached = new Map([[start, start]]);
    for (const [file, way] of reached) {
      assert.not.match(file, /^(node:|webgpu$|h5wasm)/, way);
      for (const next of runs.get(file) ?? []) if (!reached.has(next)) reached.set(next, `${way} → ${next}`);
    }
  }
});

test('no cycle among the engine, model and train files of one floor', () => {
  const edges = new Map<string, string[]>();
  for (const { from, to, isPackage } of imports()) if (!isPackage) edges.set(from, [...(edges.get(from) ?? []), to]);
  const done = new Set<string>();
  const visit = (file: string, path: string[]): string | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file].join(' → ');
    if (done.has(file)) return undefined;
    for (const next of edges.get(file) ?? []) {
      const cycle = visit(next, [...path, file]);
      if (cycle) return cycle;
    }
    done.add(file);
    return undefined;
  };
  for (const file of edges.keys()) assert.is(visit(file, []), undefined);
});

test('the rules object to what they forbid', () => {
  const forbidden: [string, string][] = [
    ['engine/shape', 'engine/device'],
    ['engine/device', 'engine/tensor'],
    ['engine/stream', 'engine/tensor'],
    ['engine/ops/add', 'engine/capture'],
    ['engine/ops/add', 'engine/node'],
    ['engine/newcomer', 'engine/shape'],
    ['engine/tensor', 'model/unet'],
    ['shaders/add', 'shaders/softmax'],
    ['shaders/add', 'engine/shape'],
    ['model/unet', 'shaders/add'],
    ['model/unet', 'engine/tensor'],
    ['model/unet', 'engine/node'],
    ['model/unet', 'train/settings/settings'],
    ['train/method/trainer', 'engine/stream'],
    ['train/method/trainer', 'bench/harness'],
    ['train/method/trainer', 'test/gpu'],
    ['train/method/trainer', 'train/data/slices'],
    ['train/files/new-folder', 'train/settings/settings'],
    ['train/newcomer/file', 'train/files/new-folder'],
    ['examples/browser/page', 'train/method/trainer'],
  ];
  for (const [from, to] of forbidden) assert.ok(objection(from, to, false), `${from} → ${to} went through`);
  for (const from of ['engine/tensor', 'shaders/add', 'model/unet']) assert.ok(objection(from, 'node:fs', true));
  assert.is(objection('engine/drivers', 'node:fs', true), undefined);
  assert.is(objection('train/cli', 'engine/node', false), undefined);
  assert.is(objection('engine/capture', 'engine/ops/add', false), undefined);
});

test.run();
